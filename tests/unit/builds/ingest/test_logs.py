"""Facts that are read from the log of a build: the line that explains its failure."""

from __future__ import annotations

import io

import pytest

from relab.builds.ingest.reading import read_source
from support.builds.logs import as_github_step, recorded

TRACEBACK = """Traceback (most recent call last):
  File "run.py", line 2, in main
    import six
ImportError: No module named six"""
MOCHA = """  1 passing (9ms)
  1 failing

  1) Basket
       costs less:

      AssertionError [ERR_ASSERTION]: 3 == 4
      + expected - actual
      at Context.<anonymous> (test/basket.js:7:3)"""
JEST = """FAIL src/a.test.js
  ● Console

    console.error
      Warning: x

  ● Basket \u203a costs less

    ReferenceError: price is not defined"""
SUREFIRE = """Tests run: 7, Failures: 1, Errors: 0, Skipped: 0, Time elapsed: 2.7 sec <<< FAILURE!
Failed tests:   testList(p.ScimTests): expected:<1> but was:<0>

Tests run: 7, Failures: 1, Errors: 0, Skipped: 0"""


GERMAN = """make[1]: Verzeichnis »/p/lib« wird betreten
y.c: In Funktion »y«:
y.c:1:21: Fehler: »undefinedname« nicht deklariert (erste Verwendung in dieser Funktion)
    1 | int y(void){ return undefinedname; }
      |                     ^~~~~~~~~~~~~
make[1]: *** [Makefile:3: y.o] Fehler 1
make: *** [Makefile:3: sub] Fehler 2"""
NPM = """npm error code ETARGET
npm error notarget No matching version found for left-pad@^99.0.0.
npm error notarget In most cases you or one of your dependencies are requesting a package version that doesn't exist."""
PIP = """  Building wheel for pyaudio (pyproject.toml): finished with status 'error'
  error: subprocess-exited-with-error
  \xd7 Building wheel for pyaudio (pyproject.toml) did not run successfully.
  │ exit code: 1
  ╰─> [10 lines of output]
      src/device_api.c:9:10: fatal error: portaudio.h: No such file or directory
          9 | #include "portaudio.h"
            |          ^~~~~~~~~~~~~
      compilation terminated.
      error: command '/usr/bin/gcc' failed with exit code 1
      [end of output]
  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for pyaudio
Failed to build pyaudio
ERROR: Could not build wheels for pyaudio, which is required to install pyproject.toml-based projects"""


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (TRACEBACK, "ImportError: No module named six"),
        (MOCHA, "AssertionError [ERR_ASSERTION]: 3 == 4"),
        (
            MOCHA.replace(" AssertionError [ERR_ASSERTION]: 3 == 4", "TypeError: x is not a function"),
            "TypeError: x is not a function",
        ),
        (JEST, "Basket \u203a costs less: ReferenceError: price is not defined"),
        (SUREFIRE, "Failed tests:   testList(p.ScimTests): expected:<1> but was:<0>"),
        ("a.c:3:5: error: 'x' undeclared", "a.c:3:5: error: 'x' undeclared"),
        (GERMAN, "y.c:1:21: Fehler: »undefinedname« nicht deklariert (erste Verwendung in dieser Funktion)"),
        (
            GERMAN.replace(" Fehler: ", " ödesdigert fel: "),
            "y.c:1:21: ödesdigert fel: »undefinedname« nicht deklariert (erste Verwendung in dieser Funktion)",
        ),
        (
            GERMAN.replace(" Fehler: ", " 致命错误\uff1a"),
            "y.c:1:21: 致命错误\uff1a»undefinedname« nicht deklariert (erste Verwendung in dieser Funktion)",
        ),
        (NPM, "npm error notarget No matching version found for left-pad@^99.0.0."),
        (PIP, "src/device_api.c:9:10: fatal error: portaudio.h: No such file or directory"),
        (recorded("pytest_failed"), None),
    ],
)
def test_error_of_a_failed_build_is_the_message_and_not_its_header(output: str, error: str | None) -> None:
    facts = read_source(io.BytesIO(as_github_step("test", output).encode()))

    assert facts.error is not None
    assert error is None or facts.error == error
    assert not facts.error.startswith(("Traceback", "___", "  ●"))
