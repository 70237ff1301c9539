"""The lineage of spans: parents that are missing, cyclic or very far up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from relab.telemetry.otlp.lineage import NOTHING, ancestors_of, is_any_complete
from support.telemetry.runs import examples
from unit.telemetry.otlp.builders import AGENT, CHAT, TOOL, facts_in, id_of, received, run_of, span

NAMES = ("a", "b", "c", "d", "e")
parent_maps = st.fixed_dictionaries(
    {name: st.sampled_from([None, *NAMES, "far"]) for name in NAMES},
)
ROLES = {"a": AGENT, "b": CHAT, "c": TOOL, "d": {"http.request.method": "GET"}, "e": CHAT}


def around(parents: dict[str, str | None], order: tuple[str, ...] | list[str] = NAMES) -> dict[str, object]:
    spans = received(*(span(name, parents[name], ROLES[name]) for name in order))
    found = ancestors_of({facts.span.span_id: facts for facts in facts_in(spans)})
    return {name: found[id_of(name)] for name in parents}


def on_a_circle(parents: dict[str, str | None], name: str) -> bool:
    here = parents[name]
    for _ in parents:
        if here is None or here not in parents or here == name:
            break
        here = parents[here]
    return here == name


@given(parent_maps, st.permutations(NAMES))
@examples(150)
def test_ancestors_do_not_depend_on_the_order_of_spans(parents: dict[str, str | None], order: list[str]) -> None:
    assert around(parents, order) == around(parents)


@given(parent_maps)
@examples(100)
def test_spans_on_a_cycle_have_no_ancestors_and_others_have_theirs(parents: dict[str, str | None]) -> None:
    found = around(parents)
    for name, parent in parents.items():
        if parent is None or parent not in parents or on_a_circle(parents, name):
            assert found[name] == NOTHING
        else:
            assert found[name].is_known == (ROLES[parent] is not ROLES["d"] or found[parent].is_known)  # type: ignore[attr-defined]


@given(parent_maps)
@examples(60)
def test_run_shows_every_span_of_an_agent_with_any_parents(parents: dict[str, str | None]) -> None:
    # Two nested model calls are both shown if they have different statuses.
    run = run_of(*(span(name, parents[name], ROLES[name], status=2 if name == "e" else 0) for name in NAMES))
    shown = {step.step_id for step in run.steps} | {call.call_id for call in run.tool_calls}
    assert shown | {id_of("a")} == {id_of(name) for name in "abce"}
    for step in run.steps:
        assert step.parent_step_id != step.step_id
        assert step.parent_step_id is None or step.parent_step_id in shown


def test_a_span_that_is_its_own_parent_is_at_the_top() -> None:
    run = run_of(span("a", "a", AGENT), span("b", "a", CHAT))
    assert run.agent_name == "shop-agent"
    assert [step.step_id for step in run.steps] == [id_of("b")]


def test_very_deep_trace_is_handled() -> None:
    names = [f"{number:x}" for number in range(5_000)]
    chain = [
        span(name, parent, {"openinference.span.kind": "CHAIN"})
        for name, parent in zip(names, [None, *names], strict=False)
    ]
    run = run_of(*reversed(chain))
    assert len(run.steps) == 4_999
    parents = {step.step_id: step.parent_step_id for step in run.steps}
    assert parents[id_of(names[-1])] == id_of(names[-2])
    assert parents[id_of(names[1])] is None


def test_very_long_cycle_is_handled() -> None:
    names = [f"{number:x}" for number in range(5_000)]
    circle = [span(name, names[number - 1], CHAT) for number, name in enumerate(names)]
    run = run_of(*circle)
    assert len(run.steps) == 5_000
    assert {step.parent_step_id for step in run.steps} == {None}


class CountedList(list[Any]):
    """A list that counts how often it is read from its beginning."""

    reads = 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        return super().__iter__()


def test_search_for_late_spans_does_not_read_the_trace_for_each_agent() -> None:
    def reads(count: int) -> int:
        agents = [span(f"a{number}", "root", AGENT, flags=0x101) for number in range(count)]
        spans = CountedList(facts_in(received(*agents, span("work", "root", {}, flags=0x101))))
        assert not is_any_complete(spans[:-1], spans)
        return spans.reads

    assert reads(50) == reads(2)


def test_tokens_of_an_agent_inside_a_model_call_are_counted_by_the_call_only_if_another_process_ran_the_agent() -> None:
    """An agent behind a gateway is a model of its client, whose span has the tokens of the whole agent."""
    counts = {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 1}
    outer = facts_in(received(span("call", None, CHAT | counts)), {"service.name": "shop"})

    def is_billed(service: str, *, flags: int = 0, parent: str = "call") -> bool:
        within = [
            span("again", "call", CHAT | counts, flags=flags),
            span("agent", parent, AGENT, flags=flags),
            span("model", "agent", CHAT | counts),
        ]
        spans = [*outer, *facts_in(received(*within), {"service.name": service})]
        return ancestors_of({facts.span.span_id: facts for facts in spans})[id_of("model")].is_billed

    assert is_billed("billing")
    assert not is_billed("shop")
    # The processes of a trial, for example, all have the same resource.
    assert is_billed("shop", flags=0x300)
    assert not is_billed("shop", flags=0x100)
    # The agent took over inside a model call of the other process.
    assert is_billed("billing", parent="again")
    assert not is_billed("shop", parent="again")
