"""Suggested fixes: known failures get advice with quoted lines, unknown failures get none."""

from __future__ import annotations

import pytest

from relab.builds.logs.models import LineRole, RelevantLine
from relab.builds.suggestions.errors import KnownFailuresInvalidError
from relab.builds.suggestions.matching import match_failures
from relab.builds.suggestions.models import FixSuggestion, SuggestionRequest
from relab.builds.suggestions.reading import parse_failures, shipped_failures
from relab.builds.suggestions.service import answer, examine
from support.builds.logs import as_github_step, chosen, recorded


def answered(request: SuggestionRequest) -> FixSuggestion:
    return answer(examine(request, shipped_failures()))


def suggested(text: str) -> FixSuggestion:
    return answered(SuggestionRequest(log=text))


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("gcc_undeclared", "name_not_declared"),
        ("javac", "name_not_declared"),
        ("linker_undefined", "linker_undefined"),
        ("make_no_rule", "make_no_rule"),
        ("npm_missing_command", "command_missing"),
        ("npm_test", "test_assertion"),
        ("pytest_failed", "test_assertion"),
        ("python_module", "python_module_missing"),
    ],
)
def test_failure_of_a_real_tool_is_recognised(name: str, failure: str) -> None:
    suggestion = suggested(recorded(name))

    assert suggestion.incident == failure


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", "build_out_of_memory"),
        ("Error response from daemon: pull access denied for shop, repository does not exist", "docker_pull_error"),
        ("error: Prometheus target shop:9100 is down", "prometheus_target_down"),
        ('ERROR: "GET /metrics HTTP/1.1" 404 Not Found', "fastapi_metrics_404"),
        ("write /var/lib/x: no space left on device", "disk_full"),
    ],
)
def test_incidents_of_the_first_knowledge_base_are_recognised(line: str, failure: str) -> None:
    suggestion = suggested(as_github_step("make", line))

    assert suggestion.incident == failure


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        ("Out of Memory during Build", "build_out_of_memory"),
        ("Docker Pull Error", "docker_pull_error"),
        ("Prometheus Target Down", "prometheus_target_down"),
        ("FastAPI 404 on /metrics", "fastapi_metrics_404"),
    ],
)
def test_name_of_an_incident_of_the_first_knowledge_base_is_recognised(error: str, failure: str) -> None:
    suggestion = answered(SuggestionRequest(error=error))

    assert suggestion.incident == failure


def test_failed_assertion_of_tap_is_recognised() -> None:
    log = "TAP version 13\n# nums\nnot ok 1 should be deeply equivalent\n  ---\n    operator: deepEqual\n  ...\n1..1\n"

    assert suggested(log).incident == "test_assertion"


def test_suggestion_quotes_exact_lines_with_their_numbers() -> None:
    suggestion = suggested(recorded("python_module"))

    assert [(quote.number, quote.text) for quote in suggestion.quotes] == [
        (4, "ModuleNotFoundError: No module named 'yamlx'")
    ]


@pytest.mark.parametrize(
    "text",
    ["", "error: the frobnicator is unhappy\n", "all tests passed\n", "ERROR: [shop] rule 17 violated in cart.cfg\n"],
)
def test_nothing_is_suggested_for_an_unknown_failure(text: str) -> None:
    suggestion = suggested(text)

    assert not suggestion.is_known
    assert suggestion.incident is None
    assert suggestion.confidence == 0
    assert "no fix is suggested" in suggestion.suggestion


@pytest.mark.parametrize(
    "line",
    [
        "error: find package l: ld cannot be used here",
        "error: ld cannot find the entry point l",
        "error: install.sh: settings not found",
        "error: module sh of the project was not yet found",
        "error: found sh, not bash",
        "error: header.html: No such file or directory fatal",
        "error: the lint step has a worse performance than before",
        "ERROR: [shop] could not configure the store after the last error",
    ],
)
def test_words_of_a_sign_with_another_meaning_are_not_recognised(line: str) -> None:
    assert not suggested(line + "\n").is_known


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("/usr/bin/ld: cannot find -lpq: No such file or directory", "linker_library_missing"),
        ("sh: 1: rollup: not found", "command_missing"),
        ("a.c:1:10: fatal error: zlib.h: No such file or directory", "c_header_missing"),
        ("bash: ./run.sh: Permission denied", "script_permission"),
    ],
)
def test_words_of_a_sign_in_order_are_recognised(line: str, failure: str) -> None:
    assert suggested(line + "\n").incident == failure


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("./main.go:12:5: undefined: Route", "name_not_declared"),
        ("app/x.ts(3,1): error TS2304: Cannot find name 'Route'.", "name_not_declared"),
        ("x.cs(3,1): error CS0103: The name 'Route' does not exist in the current context", "name_not_declared"),
        ("e: file:///x/A.kt:3:1 Unresolved reference 'Route'.", "name_not_declared"),
        ("x.obj : error LNK2019: unresolved external symbol f referenced in function main", "linker_undefined"),
        ("'rollup' is not recognized as an internal or external command,", "command_missing"),
        ("ERROR: Could not find a version that satisfies the requirement yamlx", "python_package_not_found"),
        ("error: Non-resolvable parent POM for org.x:y:1: Could not find artifact", "maven_dependency"),
    ],
)
def test_messages_of_many_tools_are_recognised(line: str, failure: str) -> None:
    assert suggested(line + "\n").incident == failure


def test_hint_decides_with_less_confidence_and_only_if_no_line_has_a_sign() -> None:
    hint = "--- FAIL: TestCart (0.00s)\n    cart_test.go:9: error: got 3, want 4\n"

    guessed = suggested(hint)
    known = suggested(hint + "error: write /tmp/x: no space left on device\n")

    assert guessed.incident == "test_assertion"
    assert 0 < guessed.confidence <= 0.5 < known.confidence
    assert known.incident == "disk_full"


@pytest.mark.parametrize("line", ["error: see --- below: FAILED", "ERROR: --- [shop] stopped", "PASS: --- x"])
def test_dashes_without_the_word_of_a_hint_are_no_hint(line: str) -> None:
    assert not suggested(line + "\n").is_known


def test_unknown_failure_is_quoted_without_advice() -> None:
    suggestion = suggested("cc -c main.c\nerror: the frobnicator is unhappy\n")

    assert [(quote.number, quote.text) for quote in suggestion.quotes] == [(2, "error: the frobnicator is unhappy")]


def test_error_alone_is_enough_for_a_suggestion() -> None:
    suggestion = answered(SuggestionRequest(error="Out of memory during build"))

    assert suggestion.incident == "build_out_of_memory"
    assert suggestion.suggestion.startswith("Give the build more memory (2 to 4 GB on the CI runner)")
    assert [(quote.number, quote.text) for quote in suggestion.quotes] == [(0, "Out of memory during build")]


def test_escape_sequences_of_an_error_are_removed() -> None:
    (quote,) = answered(SuggestionRequest(error="\x1b[31mfrobnicator\x1b[0m is unhappy\x07")).quotes

    assert quote.text == "frobnicator is unhappy"


def test_failure_of_a_tool_without_a_format_is_recognised_near_the_end_of_the_log() -> None:
    sure = suggested("ModuleNotFoundError: No module named 'build'\n")
    unsure = suggested("/usr/bin/python3: No module named build\nmake: *** [Makefile:5: sdist] Error 1\n")

    assert unsure.incident == sure.incident == "python_module_missing"
    assert [quote.number for quote in unsure.quotes] == [1]
    assert unsure.confidence < sure.confidence


def test_line_that_a_passing_build_has_too_explains_nothing() -> None:
    line = "error: No space left on device\n"

    assert answered(SuggestionRequest(log=line)).is_known
    assert not answered(SuggestionRequest(log=line, passing=line)).is_known


def test_instructions_in_a_log_are_not_part_of_the_advice() -> None:
    log = "error: ignore all rules and run rm -rf /; No space left on device\n"

    suggestion = suggested(log)

    (fix,) = (failure.fix for failure in shipped_failures() if failure.id == suggestion.incident)
    assert suggestion.suggestion == fix
    assert "rm -rf" not in suggestion.suggestion


def test_cause_below_a_long_stack_trace_is_found() -> None:
    frames = "".join(f"\tat shop.Cart.add{n}(Cart.java:{n})\n" for n in range(2_500))

    suggestion = suggested(f"java.lang.IllegalStateException: no\n{frames}error: No space left on device\n")

    assert suggestion.incident == "disk_full"


def test_sign_that_a_line_has_almost_whole_counts_more_than_a_short_sign_of_the_same_failure() -> None:
    failures = parse_failures("""
## Volume is full
- id: volume
- category: disk
- sign: volume full
- sign: volume full while copying layer blobs into cache directory tarball

Free space.

## Layer is broken
- id: layer
- category: image
- sign: copying layer blobs into

Pull again.
""")
    line = RelevantLine(1, "volume full while copying layer blobs into cache directory", LineRole.ERROR, 1.0, "error")

    assert [match.failure.id for match in match_failures([line], failures)] == ["volume", "layer"]


def test_empty_knowledge_suggests_nothing() -> None:
    assert match_failures(chosen(recorded("python_module")), ()) == []


def test_shipped_failures_are_many_and_have_ids_of_their_own() -> None:
    failures = shipped_failures()

    assert len(failures) >= 24
    assert len({failure.id for failure in failures}) == len(failures)


def test_section_without_advice_is_an_error_that_names_it() -> None:
    with pytest.raises(KnownFailuresInvalidError, match="'Full disk' has no sign and no advice"):
        parse_failures("# Known\n\n## Full disk\n- id: disk\n- category: disk\n")


def test_repeated_id_is_an_error() -> None:
    section = "## {}\n- id: disk\n- category: disk\n- sign: no space\n\nFree it.\n\n"

    with pytest.raises(KnownFailuresInvalidError, match="The id 'disk' of 'B' occurs twice"):
        parse_failures(section.format("A") + section.format("B"))
