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


@pytest.mark.parametrize(
    ("output", "error"),
    [
        (TRACEBACK, "ImportError: No module named six"),
        (MOCHA, "AssertionError [ERR_ASSERTION]: 3 == 4"),
        (JEST, "Basket \u203a costs less: ReferenceError: price is not defined"),
        (SUREFIRE, "Failed tests:   testList(p.ScimTests): expected:<1> but was:<0>"),
        ("a.c:3:5: error: 'x' undeclared", "a.c:3:5: error: 'x' undeclared"),
        (recorded("pytest_failed"), None),
    ],
)
def test_error_of_a_failed_build_is_the_message_and_not_its_header(output: str, error: str | None) -> None:
    facts = read_source(io.BytesIO(as_github_step("test", output).encode()))

    assert facts.error is not None
    assert error is None or facts.error == error
    assert not facts.error.startswith(("Traceback", "___", "  ●"))
