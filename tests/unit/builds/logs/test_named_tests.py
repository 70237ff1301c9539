"""Test names and outcomes read from logs, in the format of each test tool."""

from __future__ import annotations

import pytest

from relab.builds.logs.named_tests import MAX_NAME_CHARS, bounded_test_name, named_tests
from support.builds.logs import as_github_step, log_of, recorded

SUREFIRE_RERUN = """[ERROR] p.RaceTest.cooks -- Time elapsed: 0.250 s <<< FAILURE!
[ERROR] p.RaceTest.burns -- Time elapsed: 0.250 s <<< FAILURE!
[ERROR] p.RaceTest.burns -- Time elapsed: 0.251 s <<< FAILURE!
[ERROR] Failures:
[ERROR] p.RaceTest.burns
[ERROR]   Run 1: RaceTest.burns:13 expected: <2000> but was: <1607>
[ERROR]   Run 2: RaceTest.burns:13 expected: <2000> but was: <1401>
[WARNING] Flakes:
[WARNING] p.RaceTest.cooks
[ERROR]   Run 1: RaceTest.cooks:13 expected: <2000> but was: <1607>
[INFO]   Run 2: PASS
[ERROR] Tests run: 2, Failures: 1, Errors: 0, Skipped: 0, Flakes: 1
"""


def found(text: str) -> dict[str, str]:
    return {test.name: test.outcome.value for test in named_tests(log_of(text).lines).tests.values()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tests/a.py::test_x PASSED   [ 50%]\n", {"tests/a.py::test_x": "passed"}),
        ("tests/a.py::test_x[a - b] FAILED\n", {"tests/a.py::test_x[a - b]": "failed"}),
        ("FAILED tests/a.py::test_x[a - b] - assert [1] == [2]\n", {"tests/a.py::test_x[a - b]": "failed"}),
        ("[gw1] [ 40%] PASSED tests/b.py::test_g\n", {"tests/b.py::test_g": "passed"}),
        ("ERROR tests/a.py - ImportError: x\n", {"tests/a.py": "failed"}),
        ("a.py::t RERUN [ 1%]\na.py::t PASSED [ 1%]\n", {"a.py::t": "flaky"}),
        ("a.py::t RERUN [ 1%]\na.py::t FAILED [ 1%]\n", {"a.py::t": "failed"}),
        ("a.py::t PASSED [ 1%]\na.py::t ERROR [ 1%]\n", {"a.py::t": "failed"}),
        ("test_m (mod.C.test_m) ... ok\nFAIL: test_n (mod.C.test_n)\n", {"test_m (mod.C.test_m)": "passed", "test_n (mod.C.test_n)": "failed"}),
        ("--- FAIL: TestA (0.01s)\n    --- PASS: TestA/sub (0.00s)\nFAIL\nFAIL\tx.org/y\t0.02s\n", {"x.org/y::TestA": "failed", "x.org/y::TestA/sub": "passed"}),
        ("  test_n (mod.C.test_n) (i=1)\nDoc. ... FAIL\nFAIL: test_n (mod.C.test_n) (i=1)\n", {"test_n (mod.C.test_n)": "failed"}),
        ("ERROR: test_n (mod.C.test_n) [a message] (k='v')\n", {"test_n (mod.C.test_n)": "failed"}),
        ("--- FAIL: TestA (0.01s)\n", {"TestA": "failed"}),
        ("     Running unittests src/lib.rs (target/debug/deps/x-0a)\ntest a::b ... ok\ntest a::c ... FAILED\n", {"src/lib.rs::a::b": "passed", "src/lib.rs::a::c": "failed"}),
        ("com.x.FooTest > bar() FAILED\n", {"com.x.FooTest > bar()": "failed"}),
        ("[ERROR] testX(pkg.Class)  Time elapsed: 0.01 s  <<< FAILURE!\n", {"testX(pkg.Class)": "failed"}),
        ("run[5: batch(mode=A, n=1)](p.BatchTest)  Time elapsed: 0.027 sec  <<< ERROR!\n", {"run[5: batch(mode=A, n=1)](p.BatchTest)": "failed"}),
        ("[ERROR] aliases share the adapter(p.KtTest)  Time elapsed: 2.2 s  <<< FAILURE!\n", {"aliases share the adapter(p.KtTest)": "failed"}),
        ("[ERROR] Tests run: 3, Failures: 1, Time elapsed: 0.01 s <<< FAILURE! - in pkg.Class\n", {}),
        ("ok 1 - good\nnot ok 2 - bad # time=3ms\nok 3 - later # SKIP\n", {"good": "passed", "bad": "failed"}),
        ("FAIL src/a.test.js\n  ✓ works (5 ms)\n  ✕ breaks\n", {"src/a.test.js::works": "passed", "src/a.test.js::breaks": "failed"}),
        (" FAIL  src/a.test.js\n  ● outer \u203a inner \u203a breaks\n  ● alone\n  ● Console\n", {"src/a.test.js::breaks": "failed", "src/a.test.js::alone": "failed"}),
        ("FAIL src/a.test.js (5.1 s)\n  ● Test suite failed to run\n", {"src/a.test.js::Test suite failed to run": "failed"}),
        ("FAIL src/a.test.js\n  outer\n    ✕ breaks (2 ms)\n\n  ● outer \u203a breaks\n", {"src/a.test.js::breaks": "failed"}),
        ("  ● outer \u203a breaks\n● Validation Warning:\n", {}),
        (" FAIL  src/v.spec.mjs > outer > breaks\n", {"src/v.spec.mjs > outer > breaks": "failed"}),
        (" FAIL  |unit| src/v.spec.ts > breaks\n", {"|unit| src/v.spec.ts > breaks": "failed"}),
        ("SUBFAILED(i=1) tests/a.py::TestK::test_sub - AssertionError: 1 == 1\n", {"tests/a.py::TestK::test_sub": "failed"}),
        ("PASSED tests/a.py::test_s\nSUBFAILED[msg] (i=1) tests/a.py::test_s - no\n", {"tests/a.py::test_s": "failed"}),
        ("SUBFAILED(case=(1, [2])) tests/a.py::T::test_x - no\n", {"tests/a.py::T::test_x": "failed"}),
        ("SUBFAILED[a[0]] tests/a.py::T::test_x - no\n", {"tests/a.py::T::test_x": "failed"}),
        ("FAIL src/a.test.js (8.1 s, 45 MB heap size)\n  ✕ breaks (2 ms)\n", {"src/a.test.js::breaks": "failed"}),
        ("FAIL unit src/a.test.js\n  ✕ breaks (2 ms)\n", {"src/a.test.js::breaks": "failed"}),
        ("  ✔ adds\n  ✘ [fail]: breaks\n", {"breaks": "failed"}),
        ("  ✓  1 p/x.spec.js:1:55 \u203a adds (111ms)\n  ✘  2 [web] \u203a p/x.spec.js:2:1 \u203a breaks (7ms)\n", {"p/x.spec.js:1:55 \u203a adds": "passed", "[web] \u203a p/x.spec.js:2:1 \u203a breaks": "failed"}),
        ("  ✘  4 p/x.spec.js:2:1 \u203a f (60ms)\n  ✓  5 p/x.spec.js:2:1 \u203a f (retry #1) (39ms)\n", {"p/x.spec.js:2:1 \u203a f": "flaky"}),
        ("  ✘  4 p/x.spec.js:2:1 \u203a f (60ms)\n  ✘  5 p/x.spec.js:2:1 \u203a f (retry #1) (39ms)\n", {"p/x.spec.js:2:1 \u203a f": "failed"}),
        (SUREFIRE_RERUN, {"p.RaceTest.cooks": "flaky", "p.RaceTest.burns": "failed"}),
        ("[WARNING] p.RaceTest.cooks\n", {}),
        ("[ERROR] p.ATest.each(int)[2] -- Time elapsed: 0.072 s <<< FAILURE!\n", {"p.ATest.each(int)[2]": "failed"}),
        ("[ERROR] p.ATest.each(String, int)[2] -- Time elapsed: 0.1 s <<< ERROR!\n", {"p.ATest.each(String, int)[2]": "failed"}),
        ("  ✓ 34 modules transformed.\n✖ 3 problems\n", {}),
        (" 1/2 Test #1: alpha ......   Passed    0.01 sec\n 2/2 Test #2: beta .......***Exception: SegFault\n", {"alpha": "passed", "beta": "failed"}),
        ("[       OK ] S.Good (3 ms)\n[  FAILED  ] S.Bad (3 ms)\n[  FAILED  ] 1 test, listed below:\n", {"S.Good": "passed", "S.Bad": "failed"}),
        ("PASS: parse\nXFAIL: old\nFAIL: run-suites\n# FAIL:  1\n", {"parse": "passed", "old": "skipped", "run-suites": "failed"}),
        ("ERROR: tests/setup.sh\nXPASS: old\n", {"tests/setup.sh": "failed", "old": "failed"}),
        ("PASS: 12\nFAIL: 0\nERROR: 0\n", {}),
        ("ERROR: canceled\nERROR: timeout.\n", {}),
        ("1/3 works  OK              0.02s\n2/3 lib:x / breaks FAIL            0.01s   killed by signal 6 SIGABRT\n3/3 hangs  TIMEOUT         2.01s\n", {"works": "passed", "lib:x / breaks": "failed", "hangs": "failed"}),
        ("  Passed P.Good [3 ms]\n  Skipped P.Later [1 ms]\n", {"P.Good": "passed", "P.Later": "skipped"}),
        ("//pkg:t   FLAKY, failed in 1 out of 2 in 1.0s\n", {"//pkg:t": "flaky"}),
        ("Calc (Tests\\Calc)\n \u2714 adds\n \u21a9 skips\n \u2205 lacks\n \u2622 risks\n \u26a0 warns\n", {f"Tests\\Calc::{name}": outcome for name, outcome in (("adds", "passed"), ("skips", "skipped"), ("lacks", "skipped"), ("risks", "skipped"), ("warns", "passed"))}),
        ("1/1 lists.decltest.append...\nexpected 2\nFAIL (Unexpected)\n", {"lists.decltest.append": "failed"}),
        ("Failures:\n\n  1) Basket costs less\n\n  lib.basket: 3\n", {}),
        ("Errors: 0\n    self.total(1)\n", {}),
        ("make: *** [all] Error 1\n", {}),
    ],
)  # fmt: skip
def test_results_are_read_as_each_tool_prints_them(text: str, expected: dict[str, str]) -> None:
    assert found(text) == expected


def test_failed_tests_of_a_recorded_run_are_read_inside_the_envelope_of_a_ci() -> None:
    names = {"test_orders.py::test_total": "failed", "test_orders.py::test_missing_price": "failed"}

    assert found(recorded("pytest_failed")) == names
    assert found(as_github_step("pytest", recorded("pytest_failed"))) == names


@pytest.mark.parametrize(
    "text",
    [
        "p.ATest > t() FAILED\n    java.lang.AssertionError\np.ATest > t() PASSED\n",
        "1/2 Test #1: t ....***Failed    0.02 sec\n    Start 1: t\n    Test #1: t ....   Passed    0.00 sec\n",
        "--- FAIL: t (0.00s)\n--- PASS: t (0.00s)\n",
    ],
)
def test_test_that_failed_and_passed_is_flaky_if_the_build_succeeded(text: str) -> None:
    lines = log_of(text).lines

    assert [test.outcome.value for test in named_tests(lines, has_succeeded=True).tests.values()] == ["flaky"]
    assert [test.outcome.value for test in named_tests(lines).tests.values()] == ["failed"]


CTEST_REPEATED = """Test project /build
1/2 Test #1: race .............***Failed    0.02 sec
    Start 1: race
    Test #1: race .............   Passed    0.01 sec
2/2 Test #2: bad ..............***Failed    0.01 sec
    Start 2: bad
    Test #2: bad ..............***Failed    0.01 sec
"""
GRADLE_REPEATED = """> Task :core:test
p.ATest > races FAILED
p.ATest > breaks FAILED
p.ATest > races PASSED
p.ATest > breaks FAILED
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CTEST_REPEATED, {"race": "flaky", "bad": "failed"}),
        (GRADLE_REPEATED, {"p.ATest > races": "flaky", "p.ATest > breaks": "failed"}),
        (GRADLE_REPEATED + "p.ATest > races FAILED\n", {"p.ATest > races": "failed", "p.ATest > breaks": "failed"}),
        (GRADLE_REPEATED.replace(":test", ":test FAILED"), {"p.ATest > races": "flaky", "p.ATest > breaks": "failed"}),
        # Output of another task lies between.
        ("> Task :a:test\nATest > t FAILED\n> Task :b:jar UP-TO-DATE\n> Task :a:test FAILED\nATest > t PASSED\n", {"ATest > t": "flaky"}),
        # Another task, and another project of CMake, may have a test with the same name.
        ("> Task :a:test\nATest > t FAILED\n> Task :b:test\nATest > t PASSED\n", {"ATest > t": "failed"}),
        ("> Task :a:test\nATest > t FAILED\n> Task :b.c:test FAILED\nATest > t PASSED\n", {"ATest > t": "failed"}),
        # So may another run, such as with another configuration, and another worker.
        ("> Task :test\nATest > t FAILED\nBUILD FAILED in 1s\n> Task :test\nATest > t PASSED\nBUILD SUCCESSFUL in 1s\n", {"ATest > t": "failed"}),
        ("> Task :test\nATest > t FAILED\nATest > t PASSED\nBUILD FAILED in 1s\n> Task :test\nATest > t FAILED\n", {"ATest > t": "failed"}),
        ("> Task :test\nBUILD SUCCESSFUL in 1s\nATest > t FAILED\nATest > t PASSED\n", {"ATest > t": "failed"}),
        (CTEST_REPEATED.replace("    Start", "50% tests passed, 1 tests failed out of 2\nTest project /build\n    Start"), {"race": "failed", "bad": "failed"}),
        ("#1 0.1 Test project /a\n#2 0.1 Test project /a\n#1 0.2 1/1 Test #1: t ...***Failed 0.1 sec\n#2 0.2 1/1 Test #1: t ...   Passed 0.1 sec\n", {"t": "failed"}),
        ("Test project /a\n1/1 Test #1: t ...***Failed 0.1 sec\nTest project /b\n1/1 Test #1: t ...   Passed 0.1 sec\n", {"t": "failed"}),
        # TestNG gives all rows of a data provider one name.
        ("> Task :test\nSuite > All > p.ATest.each FAILED\nSuite > All > p.ATest.each PASSED\n", {"Suite > All > p.ATest.each": "failed"}),
        # Old versions of Gradle omit the method of a parameterised test.
        ("> Task :test\nATest > [1] a FAILED\nATest > [1] a PASSED\n", {"ATest > [1] a": "failed"}),
        ("> Task :test\nATest > each(int) > [1] a FAILED\nATest > each(int) > [1] a PASSED\n", {"ATest > each(int) > [1] a": "flaky"}),
        ("> Task :test\nATest > [1] x = 1 > t() FAILED\nATest > [1] x = 1 > t() PASSED\n", {"ATest > [1] x = 1 > t()": "flaky"}),
    ],
)  # fmt: skip
def test_repeated_test_is_flaky_in_a_failed_build_if_names_are_unique(text: str, expected: dict[str, str]) -> None:
    assert found(text) == expected


MOCHA = """  12 passing (1s)
  3 failing

  1) Basket
       with a coupon
         costs less:
     TypeError: Cannot read properties of undefined
      at Context.<anonymous> (test/basket.js:7:3)
any text of the test
  2) Basket
       "before all" hook for "is empty":
     Error: Timeout of 2000ms exceeded.
  3) alone:
     Error: no

npm ERR! code ELIFECYCLE
  4) not of the list:
"""


def test_names_that_mocha_writes_on_several_lines_are_joined() -> None:
    names = ["Basket with a coupon costs less", 'Basket "before all" hook for "is empty"', "alone"]

    tests = named_tests(log_of(MOCHA).lines).tests

    assert [(test.name, test.outcome.value, test.line) for test in tests.values()] == [
        (names[0], "failed", 4),
        (names[1], "failed", 10),
        (names[2], "failed", 13),
    ]


def test_name_of_mocha_with_too_many_lines_is_not_read() -> None:
    head, group, end = "  1 failing\n  1) Basket\n", "    group\n", "    costs less:\n"

    assert list(found(head + group * 18 + end)) == [f"Basket{' group' * 18} costs less"]
    assert found(head + group * 30 + end) == {}


def test_lists_of_workers_that_write_at_once_are_read_apart() -> None:
    text = "b:test:   1 failing\na:test:   1 failing\na:test:   1) Basket\nb:build: done\nb:test: npm error code 1\na:test:        costs less:\n"

    assert found(text) == {"Basket costs less": "failed"}


PYTEST_REPORTS = """=========== FAILURES ===========
______ TestKey.test_down[a-b] ______
_ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _
E   assert 0
_ TestKey.test_a_name_that_leaves_no_room __
E   assert 1
=========== ERRORS ===========
___ ERROR collecting tests/test_x.py ___
E   ImportError: y
=== 2 failed, 1 error in 0.12s ===
____ no test ____
"""


def test_failed_tests_are_read_from_the_reports_of_pytest_if_its_summary_is_missing() -> None:
    reported = {
        "TestKey.test_down[a-b]": "failed",
        "TestKey.test_a_name_that_leaves_no_room": "failed",
        "tests/test_x.py": "failed",
    }

    assert found(PYTEST_REPORTS) == reported
    assert found(f"{PYTEST_REPORTS}FAILED tests/test_key.py::TestKey::test_down[a-b]\n") == {
        "tests/test_key.py::TestKey::test_down[a-b]": "failed"
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Failed tests:   testList(p.ScimTests): expected:<1> but was:<0>\n  testMap(p.ScimTests): no\n\nTests run: 2\n  a.b\n", ["testList(p.ScimTests)", "testMap(p.ScimTests)"]),
        ("Failed tests: \n  BasicsTest.testRound:673 Expected no diffs.\nTests in error: \n  RoundTest.testRead:217->Base.convert:91 » X\n\n", ["BasicsTest.testRound", "RoundTest.testRead"]),
        ("[ERROR] Failures: \n[ERROR]   ATest.a:1 no\n[ERROR] Errors: \n[ERROR]   BTest.b:2 » X\n", ["ATest.a", "BTest.b"]),
        ("Failed tests: \n  testSize on instance testSize(p.UploadTest)(p.UploadTest): no\n    java.io.IOException: x\n    java.lang.AssertionError: y\n", ["testSize(p.UploadTest)"]),
        ("Failed tests: \n  ATest.a:1 no\ntestA(p.ATest)  Time elapsed: 0.02 sec  <<< FAILURE!\n", ["testA(p.ATest)"]),
    ],
)  # fmt: skip
def test_failed_tests_are_read_from_the_list_of_surefire_if_it_reports_no_details(
    text: str, expected: list[str]
) -> None:
    assert list(found(text)) == expected


def test_test_that_only_failed_is_not_flaky_although_the_build_succeeded() -> None:
    lines = log_of("--- FAIL: t (0.00s)\n--- PASS: u (0.00s)\n").lines

    assert named_tests(lines, has_succeeded=True).tests["t"].outcome.value == "failed"


def test_number_of_tests_is_bounded_and_the_rest_is_counted() -> None:
    logged = named_tests(log_of("".join(f"a.py::t{number} PASSED\n" for number in range(20_050))).lines)

    assert (len(logged.tests), logged.left_out) == (20_000, 50)


def test_long_names_with_the_same_end_stay_different() -> None:
    names = {bounded_test_name(f"{number}{'x' * 10_000}") for number in range(10)}

    assert len(names) == 10
    assert {len(name) for name in names} == {MAX_NAME_CHARS}


@pytest.mark.parametrize(
    "text",
    [
        (" " * 1_990 + "ok\n") * 1_500,
        ("1/2 FAIL" + " " * 1_900 + "x\n") * 8_000,
        "".join(f"Test project /{number}\n1/1 Test #1: t ...   Passed 0.1 sec\n" for number in range(80_000)),
    ],
)
@pytest.mark.timeout(60)
def test_hostile_logs_take_linear_time(text: str) -> None:
    assert set(found(text)) <= {"t"}
