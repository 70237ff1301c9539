"""Logs of build tools in their formats: how the build ended, the line of the cause, and the failed tests."""

from __future__ import annotations

import io

import pytest

from relab.builds.ingest.reading import read_source
from relab.builds.logs.models import LineRole
from relab.builds.logs.reading import unwrap
from relab.builds.logs.results import log_result
from relab.builds.models import BuildStatus, BuildTestOutcome
from support.builds.logs import chosen, log_of

SBT = """\
[info] loading settings for project depot from build.sbt
[info] OrderSpec:
[info] - keeps the total
[info] - rejects an empty basket *** FAILED ***
[info]   3 did not equal 0 (OrderSpec.scala:21)
[error] Failed: Total 2, Failed 1, Errors 0, Passed 1
[error] Failed tests:
[error] \tdepot.OrderSpec
[error] (Test / test) sbt.TestsFailedException: Tests unsuccessful
[error] Total time: 7 s, completed Nov 2, 2026, 9:00:00 AM
"""
SBT_DEPENDENCY = """\
[warn] \t:::::::::::::::::::::::::::::
[warn] \t:: org.acme#ledger_2.13;4.5.6: not found
[error] sbt.librarymanagement.ResolveException: unresolved dependency: org.acme#ledger_2.13;4.5.6: not found
[error] \tat sbt.internal.librarymanagement.IvyActions$.resolve(IvyActions.scala:1)
[error] (update) sbt.librarymanagement.ResolveException: unresolved dependency: org.acme#ledger_2.13;4.5.6: not found
"""
BITBAKE = """\
NOTE: Executing Tasks
ERROR: depot-2.1-r0 do_fetch: Fetcher failure for URL: 'https://files.example/depot-2.1.tar.gz'. Unable to fetch URL from any source.
ERROR: Logfile of failure stored in: /w/tmp/work/depot/temp/log.do_fetch.77
ERROR: Task (/w/meta/depot_2.1.bb:do_fetch) failed with exit code '1'
NOTE: Tasks Summary: Attempted 12 tasks of which 11 didn't need to be rerun and 1 failed.
Summary: 1 task failed:
  /w/meta/depot_2.1.bb:do_fetch
"""
OPAM = """\
<><> Processing actions <><><><><><><><><><><><><><><><><><><><><><><><><><>
[ERROR] The compilation of depot.1.2 failed at "dune build -p depot -j 4".

#=== ERROR while compiling depot.1.2 ==========================================#
# context     2.1.5 | linux/x86_64 | ocaml-base-compiler.5.1.0 | https://opam.example
# path        ~/.opam/5.1/.opam-switch/build/depot.1.2
# command     ~/.opam/opam-init/hooks/sandbox.sh build dune build -p depot -j 4
# exit-code   1
# env-file    ~/.opam/log/depot-7.env
# output-file ~/.opam/log/depot-7.out
### output ###
# (cd _build/default/src && discover/discover.exe -o flags.sexp)
# Fatal error: exception Configurator.Fatal_error("Cannot find special file")

"""
NIX = """\
building '/nix/store/0a1-depot-2.1.drv'...
error: builder for '/nix/store/0a1-depot-2.1.drv' failed with exit code 2;
       last 2 log lines:
       > depot.c:3:1: error: unknown type name 'quantity'
       > make: *** [Makefile:2: depot.o] Error 1
       For full logs, run 'nix log /nix/store/0a1-depot-2.1.drv'.
error: 1 dependencies of derivation '/nix/store/0b2-system.drv' failed to build
"""
TERRAFORM = """\
aws_s3_bucket.depot: Refreshing state... [id=depot]
\u2577
\u2502 Error: Error acquiring the state lock
\u2502
\u2502 Error message: the lock is held by another run
\u2502
\u2502 Terraform acquires a state lock to protect the state from being written
\u2502 by multiple users at the same time.
\u2575
"""
CONDA = """\
Collecting package metadata (repodata.json): done
Solving environment: failed

PackagesNotFoundError: The following packages are not available from current channels:

  - depot-tools=9
"""
DOTNET = """\
  Determining projects to restore...
  All projects are up-to-date for restore.
[xUnit.net 00:00:01.20]     Depot.OrderTests.KeepsTotal [FAIL]
  Failed Depot.OrderTests.KeepsTotal [12 ms]
  Error Message:
   Assert.Equal() Failure: Values differ
Expected: 3
Actual:   4
  Stack Trace:
     at Depot.OrderTests.KeepsTotal() in /w/OrderTests.cs:line 9
  Passed Depot.OrderTests.RejectsEmpty [1 ms]

Failed!  - Failed:     1, Passed:     1, Skipped:     0, Total:     2, Duration: 13 ms - depot.dll (net8.0)
"""
XCTEST = """\
Test Case '-[DepotTests.OrderTests testTotal]' started.
/w/OrderTests.swift:12: error: -[DepotTests.OrderTests testTotal] : XCTAssertEqual failed: ("3") is not equal to ("4")
Test Case '-[DepotTests.OrderTests testTotal]' failed (0.010 seconds).
Test Case '-[DepotTests.OrderTests testEmpty]' passed (0.001 seconds).
\t Executed 2 tests, with 1 failure (0 unexpected) in 0.011 (0.013) seconds
** TEST FAILED **
"""
STACK = """\
depot     > configure
depot     > Cabal-simple_x_3.8.1.0_ghc-9.4.7: Missing dependency on a foreign library:
depot     > * Missing (or bad) C library: quantities
depot     > This problem can usually be solved by installing the system package.

--  While building package depot-2.1 using:
    Process exited with code: ExitFailure 1
"""


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (SBT, BuildStatus.FAILED),
        (SBT_DEPENDENCY, BuildStatus.FAILED),
        ("[success] Total time: 3 s, completed Nov 2, 2026\n", BuildStatus.SUCCESS),
        (BITBAKE, BuildStatus.FAILED),
        (
            "NOTE: Tasks Summary: Attempted 9 tasks of which 8 didn't need to be rerun and all succeeded.\n",
            BuildStatus.SUCCESS,
        ),
        (NIX, BuildStatus.FAILED),
        ("hash mismatch in fixed-output derivation '/nix/store/0a1-depot.tar.gz':\n", BuildStatus.FAILED),
        (TERRAFORM, BuildStatus.FAILED),
        ("Apply complete! Resources: 1 added, 0 changed, 0 destroyed.\n", BuildStatus.SUCCESS),
        (
            "\u2577\n\u2502 Warning: Argument is deprecated\n\u2575\nPlan: 1 to add, 0 to change, 0 to destroy.\n",
            BuildStatus.SUCCESS,
        ),
        ("Error: UPGRADE FAILED: another operation is in progress\n", BuildStatus.FAILED),
        ("NAME: depot\nNAMESPACE: shop\nSTATUS: deployed\n", BuildStatus.SUCCESS),
        ("STATUS: deployed\n", BuildStatus.UNKNOWN),
        (CONDA, BuildStatus.FAILED),
        (CONDA + "Executing transaction: done\n", BuildStatus.UNKNOWN),
        (DOTNET, BuildStatus.FAILED),
        ("Passed!  - Failed:     0, Passed:     2, Skipped:     0, Total:     2 - a.dll\n", BuildStatus.SUCCESS),
        ("Failed!  - Failed:     1, Passed: 1\nPassed!  - Failed:     0, Passed:     2\n", BuildStatus.FAILED),
        ("/w/a.csproj : error NU1101: Unable to find package Depot.\n", BuildStatus.FAILED),
        ("/w/A.cs(3,9): error CS1002: ; expected [/w/a.csproj]\n", BuildStatus.FAILED),
        ("/w/A.cs(3,9): warning CS0168: declared but never used\nBuild succeeded.\n", BuildStatus.SUCCESS),
        (XCTEST, BuildStatus.FAILED),
        ("** BUILD SUCCEEDED **\n", BuildStatus.SUCCESS),
        ("Build complete! (3.21s)\n", BuildStatus.SUCCESS),
        ("/w/A.swift:1:8: error: no such module 'Depot'\nerror: fatalError\n", BuildStatus.FAILED),
        (STACK, BuildStatus.FAILED),
        ("cabal: Could not resolve dependencies:\n[__0] next goal: depot (user goal)\n", BuildStatus.FAILED),
        ("panic: test timed out after 10m0s\n\trunning tests:\n", BuildStatus.FAILED),
        ("error: package `depot v2.1.0` cannot be built because it requires rustc 1.90 or newer\n", BuildStatus.FAILED),
        ("[ERROR] Failed to execute goal on project depot: Could not resolve dependencies\n", BuildStatus.FAILED),
        ("[ERROR] Failed to execute goal org.acme:x\n[INFO] BUILD SUCCESS\n", BuildStatus.SUCCESS),
        ("info Visit https://yarnpkg.com/en/docs/cli/run for documentation about this command.\n", BuildStatus.FAILED),
        ("-- Configuring incomplete, errors occurred!\n", BuildStatus.FAILED),
        ("ERROR: Error cloning remote repo 'origin'\nFinished: SUCCESS\n", BuildStatus.SUCCESS),
        ("t/order.t .... Dubious, test returned 2 (wstat 512, 0x200)\n", BuildStatus.FAILED),
        ("! Installing the dependencies failed: Module 'Depot::Order' is not installed\n", BuildStatus.FAILED),
        ("1 error | 0 warnings | 2 notes\n", BuildStatus.FAILED),
        ("0 errors \u2714 | 0 warnings \u2714 | 1 note \u2716\n", BuildStatus.SUCCESS),
        ("Error: Process completed with exit code 3.\n", BuildStatus.FAILED),
        ("------\nDockerfile:7\n-------\n", BuildStatus.FAILED),
        ("reads Dockerfile:7\nDockerfile:7\n", BuildStatus.UNKNOWN),
    ],
)
def test_end_of_a_build_is_read_from_the_tools_own_result(text: str, status: BuildStatus) -> None:
    assert log_result(log_of(text).lines).status is status


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (SBT, "[info]   3 did not equal 0 (OrderSpec.scala:21)"),
        (SBT_DEPENDENCY, "[warn] \t:: org.acme#ledger_2.13;4.5.6: not found"),
        (BITBAKE, BITBAKE.splitlines()[1]),
        (NIX, "       > depot.c:3:1: error: unknown type name 'quantity'"),
        (TERRAFORM, "\u2502 Error message: the lock is held by another run"),
        (CONDA, "  - depot-tools=9"),
        (DOTNET, "   Assert.Equal() Failure: Values differ"),
        (XCTEST, XCTEST.splitlines()[1]),
        (STACK, "depot     > * Missing (or bad) C library: quantities"),
    ],
)
def test_line_of_the_cause_is_chosen(text: str, cause: str) -> None:
    lines = [line.text for line in chosen(text) if line.role is not LineRole.CONSEQUENCE]

    assert cause in lines


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        (SBT, ["depot.OrderSpec"]),
        (DOTNET, ["Depot.OrderTests.KeepsTotal"]),
        (XCTEST, ["-[DepotTests.OrderTests testTotal]"]),
    ],
)
def test_failed_tests_are_named(text: str, failed: list[str]) -> None:
    facts = read_source(io.BytesIO(text.encode()))

    assert [test.name for test in facts.tests if test.outcome is BuildTestOutcome.FAILED] == failed


OCAML_PLACE = 'File "shop.ml", line 3, characters 4-9:\n3 | let total = 1\n        ^^^^^\n'


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (f"{OCAML_PLACE}Error: Unbound value total\n", BuildStatus.FAILED),
        (f"{OCAML_PLACE}Error (warning 32 [unused-value-declaration]): unused value total.\n", BuildStatus.FAILED),
        (
            f"{OCAML_PLACE}Warning 32 [unused-value-declaration]: unused value total.\nError: no orders\n",
            BuildStatus.UNKNOWN,
        ),
        (f"{OCAML_PLACE}Alert deprecated: Shop.total\nError: no orders\n", BuildStatus.UNKNOWN),
        (
            f"{OCAML_PLACE}Warning 32 [unused-value-declaration]: unused value.\n{OCAML_PLACE}Error: Unbound value x\n",
            BuildStatus.FAILED,
        ),
    ],
)
def test_error_of_the_program_after_a_warning_of_ocaml_is_no_failed_build(text: str, status: BuildStatus) -> None:
    assert log_result(log_of(text).lines).status is status


def test_advice_of_terraform_about_the_lock_is_no_error() -> None:
    advice = [line for line in chosen(TERRAFORM) if "acquires a state lock" in line.text]

    assert [line.role for line in advice] in ([], [LineRole.CONSEQUENCE])


def test_output_before_a_failed_extension_of_a_gem_is_chosen() -> None:
    text = (
        "Gem::Ext::BuildError: ERROR: Failed to build gem native extension.\n\n"
        "    current directory: /w/gems/depot-2.1/ext\nchecking for quantities.h... no\n"
        "The header of quantities is needed.\n*** extconf.rb failed ***\n"
    )

    assert "The header of quantities is needed." in [line.text for line in chosen(text)]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("[09:10:11.123] npm ERR! code E404", "npm ERR! code E404"),
        ("9:10:11 AM: npm ERR! code E404", "npm ERR! code E404"),
        ("09:10:11.123 [ERROR] [org.gradle.internal.Reporter] FAILURE: Build failed", "FAILURE: Build failed"),
        ("2026-11-02T09:10:11.123+0000 [ERROR] [org.gradle.internal.Reporter] ", ""),
        ("[ERROR] [org.acme.Depot] closed", "[ERROR] [org.acme.Depot] closed"),
        ("9:10:11 am to noon", "9:10:11 am to noon"),
        ("[09:10] late", "[09:10] late"),
    ],
)
def test_clocks_of_hosts_and_of_gradle_are_removed(raw: str, text: str) -> None:
    assert unwrap(raw) == ("", text)


@pytest.mark.parametrize(
    "line",
    [
        "x" * 1_900 + " error CS1002: ",
        "[error] " + "(" * 1_900,
        " " * 1_000 + "x" * 900 + " [FAI",
        "ERROR: Task (" + "x" * 1_900,
        "t/" + "a." * 900 + "t ... ",
        "a/" * 900 + "Dockerfile",
        "error error " * 160,
    ],
)
@pytest.mark.timeout(20)
def test_hostile_lines_of_build_tools_take_linear_time(line: str) -> None:
    log = log_of(f"{line}\n" * 1_000)

    assert log_result(log.lines).status in set(BuildStatus)
    assert len(log.lines) == 1_000


def test_opam_report_shows_the_output_of_the_tool_that_failed() -> None:
    facts = read_source(io.BytesIO(OPAM.encode()))

    assert facts.status is BuildStatus.FAILED
    assert facts.error == '# Fatal error: exception Configurator.Fatal_error("Cannot find special file")'


@pytest.mark.parametrize("place", ["src/Cart.java", "/w/Cart.java", "C:\\w\\src\\Cart.java"])
def test_error_of_javac_is_a_block_of_java_on_each_system(place: str) -> None:
    lines = chosen(
        f"{place}:3: error: cannot find symbol\n        Lne line;\n        ^\n  symbol:   class Lne\n1 error\n"
    )

    assert [line.why for line in lines if "cannot find symbol" in line.text] == ["Java: compiler error"]
    assert "  symbol:   class Lne" in [line.text for line in lines]
