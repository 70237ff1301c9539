"""Selectors of forks: which checkpoint each selects, and which selectors are rejected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.errors import ForkInvalidError, SelectorUnmatchedError
from relab.experiments.trial.fork_points import choose, parse_selector
from relab.experiments.trial.wire import Checkpoint


def checkpoint(step: int | None, name: str | None = None) -> Checkpoint:
    return Checkpoint(path=f"/state/{name or step}", logical_name=name, step=step)


def step_end(step: int, seq: int) -> dict[str, Any]:
    return {"event_type": "agent_step_end", "step_index": step, "seq": seq}


CHECKPOINTS = [checkpoint(2, "two"), checkpoint(4, "four"), checkpoint(6, "six")]
EVENTS = [step_end(step, 10 * step) for step in range(1, 8)]


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("checkpoint:four", "four"),
        ("checkpoint:/state/six", "six"),
        ("step:2", "two"),
        ("step:5", "four"),
        ("step:7", "six"),
        ("event_seq:20", "two"),
        ("event_seq:59", "four"),
        ("event_seq:60", "six"),
    ],
)
def test_selector_picks_the_last_checkpoint_at_or_before_it(selector: str, name: str) -> None:
    found = choose(parse_selector(selector), CHECKPOINTS, EVENTS)

    assert found is not None
    assert found.logical_name == name


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        ("step:1", "before the first checkpoint: the first one is at 2"),
        ("step:8", "past the end: the last step is 7"),
        ("event_seq:19", "before the first checkpoint: the first one is at 20"),
        ("event_seq:71", "past the end: the last event is 70"),
        ("checkpoint:five", "no checkpoint 'five'"),
    ],
)
def test_selector_without_a_checkpoint_is_refused(selector: str, said: str) -> None:
    with pytest.raises(SelectorUnmatchedError, match=said):
        choose(parse_selector(selector), CHECKPOINTS, EVENTS)


def test_trial_without_checkpoints_has_no_selection_but_a_last_step() -> None:
    assert choose(parse_selector("step:3"), [], EVENTS) is None
    assert choose(parse_selector("checkpoint:any"), [], []) is None
    with pytest.raises(SelectorUnmatchedError, match="past the end"):
        choose(parse_selector("step:8"), [], EVENTS)


def test_checkpoints_without_a_step_are_chosen_by_name_only() -> None:
    unnumbered = [checkpoint(None, "loose")]

    assert choose(parse_selector("checkpoint:loose"), unnumbered, EVENTS) == unnumbered[0]
    with pytest.raises(SelectorUnmatchedError, match="no checkpoint has a known one"):
        choose(parse_selector("step:3"), unnumbered, EVENTS)


def test_event_is_compared_with_the_end_of_the_step_of_a_checkpoint() -> None:
    events = [
        step_end(2, 3),
        {"event_type": "tool_call_end", "step_index": 2, "seq": 5},
        {"event_type": "agent_step_end", "seq": 6},
        {"event_type": "agent_step_end", "step_index": "4", "seq": 7},
    ]

    # The steps 4 and 6 have no end.
    for selector in ("event_seq:3", "event_seq:7"):
        assert choose(parse_selector(selector), CHECKPOINTS, events) == CHECKPOINTS[0]
    with pytest.raises(SelectorUnmatchedError, match="before the first checkpoint: the first one is at 3"):
        choose(parse_selector("event_seq:2"), CHECKPOINTS, events)
    with pytest.raises(SelectorUnmatchedError, match="past the end: the last event is 7"):
        choose(parse_selector("event_seq:8"), CHECKPOINTS, events)


def test_event_of_a_trial_without_events_selects_no_checkpoint() -> None:
    with pytest.raises(SelectorUnmatchedError, match="no checkpoint has a known one"):
        choose(parse_selector("event_seq:3"), CHECKPOINTS, [])
    assert choose(parse_selector("step:6"), CHECKPOINTS, []) == CHECKPOINTS[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [("step:7", "step 7"), ("event_seq:12", "event 12"), ("checkpoint:four", "the checkpoint four")],
)
def test_selector_in_words(text: str, words: str) -> None:
    assert str(parse_selector(text)) == words


def test_later_of_two_checkpoints_with_one_step_or_name_is_selected() -> None:
    twice = [checkpoint(2, "two"), Checkpoint(path="/state/again", logical_name="two", step=2)]

    assert choose(parse_selector("step:2"), twice, EVENTS) == twice[1]
    assert choose(parse_selector("checkpoint:two"), twice, EVENTS) == twice[1]


@given(st.sets(st.integers(0, 50), min_size=1), st.integers(0, 60))
def test_step_is_the_greatest_at_or_before(steps: set[int], number: int) -> None:
    checkpoints = [checkpoint(step) for step in sorted(steps)]
    events = [step_end(step, 3 * step + 1) for step in range(61)]
    fitting = [step for step in steps if step <= number]
    for selector in (f"step:{number}", f"event_seq:{3 * number + 1}"):
        if fitting:
            found = choose(parse_selector(selector), checkpoints, events)
            assert found is not None
            assert found.step == max(fitting)
        else:
            with pytest.raises(SelectorUnmatchedError):
                choose(parse_selector(selector), checkpoints, events)


@pytest.mark.parametrize(
    "text",
    ["", "step", "step:", "step:-1", "step:1.5", "step:x", "step:\u0661", "event_seq:", "seq:3", "checkpoint:", "checkpoint:a\nb", "Step:3"],
)  # fmt: skip
def test_malformed_selector_is_refused(text: str) -> None:
    with pytest.raises(ForkInvalidError, match="is no selector"):
        parse_selector(text)


@pytest.mark.parametrize("kind", ["step", "event_seq"])
@pytest.mark.parametrize("digits", [20, 999, 20_000])
def test_selector_with_a_number_beyond_64_bits_is_rejected_with_the_reason(kind: str, digits: int) -> None:
    with pytest.raises(
        ForkInvalidError, match=rf"^The number in '{kind}:9+…?' is too large\. Write {kind}:<number> with"
    ) as found:
        parse_selector(f"{kind}:{'9' * digits}")

    assert len(str(found.value)) < 200
