"""Test histories, classified as flaky, broken, fixed, failing, changing or stable by outcomes over builds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.builds.flakiness import HistoryStatus, HistoryVerdict, ObservedOutcome, judge
from relab.builds.models import BuildTestOutcome

OUTCOMES = {
    "p": BuildTestOutcome.PASSED,
    "f": BuildTestOutcome.FAILED,
    "r": BuildTestOutcome.FLAKY,
    "s": BuildTestOutcome.SKIPPED,
}


def history(outcomes: str, inputs: str = "", lane: str = "main", start: int = 0) -> list[ObservedOutcome]:
    """Return one outcome per letter; the letter of `inputs` at its position names the input, a space means no input."""
    return [
        ObservedOutcome(
            build_id=f"{lane}{start + number:04}",
            started_at=start + number,
            input=inputs[number].strip() or None if number < len(inputs) else None,
            lane=lane,
            outcome=OUTCOMES[letter],
        )
        for number, letter in enumerate(outcomes)
    ]


def shown(verdict: HistoryVerdict) -> tuple[str, list[str], int]:
    return verdict.status.value, [each.build_id for each in verdict.evidence], verdict.streak


@pytest.mark.parametrize(
    ("outcomes", "inputs", "expected"),
    [
        ("pppp", "abcd", ("stable", [], 4)),
        ("pfpp", "abbc", ("flaky", ["main0001", "main0002"], 2)),
        ("pffp", "aabc", ("flaky", ["main0000", "main0001"], 1)),
        ("ppfff", "abcde", ("broken", ["main0001", "main0002"], 3)),
        ("ppfff", "", ("broken", ["main0001", "main0002"], 3)),
        ("pffpp", "abcde", ("fixed", ["main0002", "main0003"], 2)),
        ("fff", "abc", ("failing", ["main0000", "main0002"], 3)),
        ("f", "a", ("failing", ["main0000"], 1)),
        ("pfpfp", "", ("changing", ["main0003", "main0004"], 1)),
        ("pfpf", "abcd", ("changing", ["main0002", "main0003"], 1)),
        ("ppr", "abc", ("flaky", ["main0002"], 0)),
        ("pssf", "abcd", ("broken", ["main0000", "main0003"], 1)),
        ("sss", "", ("stable", [], 0)),
        ("", "", ("stable", [], 0)),
    ],
)
def test_history_is_classified_with_the_builds_that_show_it(
    outcomes: str, inputs: str, expected: tuple[str, list[str], int]
) -> None:
    assert shown(judge(history(outcomes, inputs))) == expected


def test_builds_without_an_input_are_never_called_flaky() -> None:
    assert judge(history("pfpfpfppff")).status is HistoryStatus.CHANGING
    assert not judge(history("pfpfpfppff")).was_flaky


def test_flaky_test_that_fails_improbably_often_is_broken() -> None:
    still = judge(history("pfpp" + "fff", "aab"))
    broken = judge(history("pfpp" + "f" * 6, "aab"))

    assert still.status is HistoryStatus.FLAKY
    assert shown(broken) == ("broken", ["main0003", "main0004"], 6)
    assert broken.was_flaky


def test_flaky_test_that_passes_improbably_often_is_fixed() -> None:
    assert judge(history("pffpf" + "p" * 5, "aa")).status is HistoryStatus.FLAKY
    assert shown(judge(history("pffpf" + "p" * 6, "aa"))) == ("fixed", ["main0004", "main0005"], 6)


def test_test_that_is_broken_in_one_job_is_broken() -> None:
    windows = history("ppff", lane="windows")
    linux = history("pppppp", lane="linux", start=10)

    assert shown(judge([*linux, *windows])) == ("broken", ["windows0001", "windows0002"], 2)


def test_first_build_of_a_branch_is_compared_with_earlier_passes_elsewhere() -> None:
    main = history("ppp", "abc")
    branch = history("f", "d", lane="topic", start=5)

    assert shown(judge([*main, *branch])) == ("broken", ["main0002", "topic0005"], 1)


def test_known_flaky_test_that_fails_first_on_a_branch_is_flaky() -> None:
    main = history("pfpp", "abbc")
    branch = history("f", "d", lane="topic", start=5)

    assert judge([*main, *branch]).status is HistoryStatus.FLAKY


LETTERS = st.lists(st.tuples(st.sampled_from("pfrs"), st.sampled_from("abc "), st.sampled_from("xy")), max_size=30)


@given(LETTERS)
def test_order_of_observations_does_not_change_the_verdict(found: list[tuple[str, str, str]]) -> None:
    observations = [
        history(outcome, given_input, lane, start=number)[0]
        for number, (outcome, given_input, lane) in enumerate(found)
    ]
    shuffled = random.Random(3).sample(observations, len(observations))

    assert judge(shuffled) == judge(observations)


@given(LETTERS)
def test_flaky_verdict_requires_proof(found: list[tuple[str, str, str]]) -> None:
    observations = [
        history(outcome, given_input, lane, start=number)[0]
        for number, (outcome, given_input, lane) in enumerate(found)
    ]
    verdict = judge(observations)

    if verdict.status is HistoryStatus.FLAKY:
        outcomes = {each.outcome for each in verdict.evidence}
        inputs = {each.input for each in verdict.evidence}
        assert outcomes in (
            {BuildTestOutcome.FLAKY},
            {BuildTestOutcome.PASSED, BuildTestOutcome.FAILED},
        )
        assert len(inputs) == 1
        assert len(verdict.evidence) == 1 or None not in inputs
    if verdict.status is HistoryStatus.STABLE:
        assert BuildTestOutcome.FAILED not in {each.outcome for each in observations}
