"""The outcomes of the agents of one run: each depends on the agent's own steps and calls, and not on its siblings."""

from __future__ import annotations

from relab.telemetry.outcome_models import AgentOutcome
from support.telemetry.runs import RunBody, time_text, tool_call
from unit.telemetry.outcome.cases import agent, bad, good, model, report_of, role, verdict

SORRY = "I am sorry, I could not look it up."
NORTH = {"name": "north", "question": "Where is A-17?"}
SOUTH = {"name": "south", "question": "Where is B-20?", "answer": "B-20 was shipped."}


def by_name(agents: tuple[AgentOutcome, ...]) -> dict[str, tuple[str, str]]:
    return {found.name: (found.outcome.value, found.outcome_rule.value) for found in agents}


def test_run_of_one_agent_lists_no_agents() -> None:
    assert report_of(agent("a", 0), good("c", 1, agent_name="researcher"), agent_name="researcher").agents == ()


def test_only_agent_that_the_reporter_lists_has_an_outcome() -> None:
    report = report_of(good("c1", 0, agent_name="south"), agents=[SOUTH], answer="B-20 was shipped.")
    assert by_name(report.agents) == {"south": ("succeeded", "no_unrecovered_error")}


def test_each_agent_is_judged_by_its_own_steps_and_calls() -> None:
    report = report_of(
        bad("c1", 0, args={"id": "A-17"}, agent_name="north"),
        model("m1", 1, SORRY, agent_name="north"),
        good("c2", 2, args={"id": "B-20"}, agent_name="south"),
        model("m2", 3, "B-20 was shipped.", agent_name="south"),
        agents=[{**NORTH, "answer": SORRY}, SOUTH],
        answer="B-20 was shipped.",
    )

    assert by_name(report.agents) == {
        "north": ("completed_with_errors", "answer_reports_failure"),
        "south": ("succeeded", "no_unrecovered_error"),
    }
    assert [(found.steps, found.tool_calls) for found in report.agents] == [(1, 1), (1, 1)]
    assert [quote.ref_id for quote in report.agents[0].outcome_evidence] == ["run-1", "c1"]
    assert report.value.value == "completed_with_errors"


def test_answer_of_a_sibling_does_not_excuse_a_failed_call() -> None:
    # The other tool stands in for the failed call, but its agent says that it could not do its task.
    items = (
        bad("c1", 0, args={"order": "A-17"}, agent_name="north"),
        good("c2", 1, tool="search", args={"order": "A-17"}, agent_name="north"),
        model("m1", 2, SORRY, agent_name="north"),
        model("m2", 3, "B-20 was shipped.", agent_name="south"),
    )
    fine = "A-17 was shipped."

    failed = report_of(*items, agents=[{**NORTH, "answer": SORRY}, SOUTH], answer="B-20 was shipped.")
    found = report_of(*items, agents=[{**NORTH, "answer": fine}, SOUTH], answer="B-20 was shipped.")

    assert failed.value.value == "completed_with_errors"
    assert found.value.value == "succeeded"


def test_run_is_no_success_if_one_of_the_agents_that_the_user_asked_gave_no_answer() -> None:
    items = (
        model("m1", 0, agent_name="north", finish_reasons=["tool_calls"]),
        good("c1", 1, agent_name="north"),
        model("m2", 2, "B-20 was shipped.", agent_name="south", finish_reasons=["stop"]),
    )
    report = report_of(*items, agents=[NORTH, SOUTH], answer="B-20 was shipped.")

    assert by_name(report.agents)["north"] == ("failed", "no_answer")
    assert (report.value.value, report.rule.value) == ("completed_with_errors", "no_answer")


def test_sub_agent_without_an_answer_does_not_decide_the_outcome_of_the_run() -> None:
    items = (
        model("m1", 0, agent_name="north", finish_reasons=["tool_calls"]),
        good("c1", 1, agent_name="north"),
        model("m2", 2, "B-20 was shipped.", agent_name="south", finish_reasons=["stop"]),
    )
    called = {**NORTH, "parent": "south", "relation": "called"}
    report = report_of(*items, agents=[called, SOUTH], answer="B-20 was shipped.")

    assert by_name(report.agents)["north"] == ("failed", "no_answer")
    assert report.value.value == "succeeded"


def test_agent_that_hands_over_needs_no_answer_of_its_own() -> None:
    report = report_of(
        model("m1", 0, agent_name="front", finish_reasons=["tool_calls"]),
        good("c1", 1, tool="transfer_to_billing", agent_name="front", to_agent="billing", relation="handed_over"),
        model("m2", 2, "Refunded.", agent_name="billing", finish_reasons=["stop"]),
        agents=[{"name": "front"}, {"name": "billing", "parent": "front", "relation": "handed_over"}],
    )

    assert by_name(report.agents) == {
        "front": ("succeeded", "no_unrecovered_error"),
        "billing": ("succeeded", "no_unrecovered_error"),
    }
    assert report.value.value == "succeeded"


def test_failure_of_the_run_belongs_to_its_own_agent() -> None:
    report = report_of(
        model("m1", 0, "Found.", agent_name="helper"),
        status="failure",
        error_message="the caller gave up",
        agent_name="boss",
        agents=[{"name": "boss"}, {"name": "helper", "parent": "boss", "relation": "called", "answer": "Found."}],
    )

    assert by_name(report.agents) == {
        "boss": ("failed", "reported_failure"),
        "helper": ("succeeded", "no_unrecovered_error"),
    }


def test_agents_that_the_reporter_does_not_list_are_taken_from_the_steps() -> None:
    report = report_of(
        role("agent", "outer", 0, name="plan"),
        role("agent", "inner", 1, name="look", agent_name="clerk", parent_step_id="outer", status="failure"),
        bad("c", 1, step_id="inner"),
        model("last", 3, "I did it myself."),
        agent_name="boss",
    )

    assert [(found.name, found.parent) for found in report.agents] == [("boss", None), ("clerk", "boss")]
    assert by_name(report.agents)["clerk"][0] == "failed"
    assert by_name(report.agents)["boss"][0] == "succeeded"


def test_agent_that_ended_in_an_incomplete_trace_has_its_own_outcome() -> None:
    report = report_of(
        agent("a", 0, name="north"),
        model("m1", 0.5, "A-17 was shipped.", agent_name="north"),
        agent("b", 2, name="south", status="running", ended_at=None),
        status="incomplete",
        agents=[{**NORTH, "answer": "A-17 was shipped."}, {"name": "south"}],
    )

    assert by_name(report.agents)["north"][0] == "succeeded"
    assert by_name(report.agents)["south"][0] == "unknown"


def test_agent_of_an_incomplete_trace_whose_end_no_span_reports_has_no_outcome_yet() -> None:
    report = report_of(
        model("m1", 0, "A-17 was shipped.", agent_name="north"),
        status="incomplete",
        agents=[{**NORTH, "answer": "A-17 was shipped."}, {"name": "south"}],
    )

    assert by_name(report.agents)["north"] == ("unknown", "incomplete")


def test_agent_that_hands_over_inside_its_model_call_needs_no_answer_of_its_own() -> None:
    """A call without a start, as in a run posted as JSON, begins with the step of the model call."""
    asking = model("m1", 0, finish_reasons=["tool_calls"])
    call = tool_call("c1", tool_name="transfer_to_billing", step_id="m1")
    run = {"span_kind": "agent", "question": "Where is A-17?"}

    assert verdict(asking, {**call, "relation": "handed_over"}, **run) == ("succeeded", "no_unrecovered_error")
    assert verdict(asking, call, **run) == ("unknown", "no_answer")


def test_answer_of_the_agent_that_took_over_inside_a_model_call_is_the_last_one() -> None:
    """Google ADK for TypeScript ends the span of the call that hands over after the agent that takes over."""
    inner = agent("a2", 2, "billing", parent_step_id="m1")

    def answered(finish_reason: str, *before: RunBody, outer: str = "tool_calls") -> tuple[str, str]:
        around = model("m1", 0, "transfer()", ended_at=time_text(9), finish_reasons=[outer])
        last = model("m2", 3, "It was", parent_step_id="a2", finish_reasons=[finish_reason])
        return verdict(around, *before, role("handoff", "h1", 1, name="transfer"), inner, last)

    assert answered("length") == ("completed_with_errors", "answer_cut_off")
    assert answered("stop") == ("succeeded", "no_unrecovered_error")
    # A tool call that ended before the hand-over did not call the agent.
    assert answered("length", good("c1", 0.5, step_id="m1")) == ("completed_with_errors", "answer_cut_off")
    # A model call that gave a text answered after the agent inside it, for example through a gateway.
    assert answered("length", outer="stop") == ("succeeded", "no_unrecovered_error")


def test_answer_of_an_agent_called_as_a_tool_inside_a_model_call_is_not_the_last_one() -> None:
    def ended(*around_agent: RunBody, parent: str) -> tuple[str, str]:
        outer = model("m1", 0, "research()", ended_at=time_text(9), finish_reasons=["tool_calls"])
        call = good("t1", 1, "research", step_id="m1", ended_at=time_text(8))
        short = good("t2", 1.2, "stock", step_id="m1", ended_at=time_text(1.5))
        inner = agent("a2", 2, parent_step_id=parent)
        last = model("m2", 3, "It was", parent_step_id="a2", finish_reasons=["length"])
        return verdict(
            agent("a1", 0, "desk"), outer, call, short, *around_agent, inner, last, question="Where is A-17?"
        )

    assert ended(parent="m1") == ("failed", "no_answer")
    graph = role("chain", "g1", 1.5, name="graph", parent_step_id="m1")
    assert ended(graph, parent="g1") == ("failed", "no_answer")


def test_agent_that_said_nothing_fails_a_run_without_any_answer() -> None:
    notes = (agent("a1", 0, "notes"), model("m1", 0, "", finish_reasons=["stop"], agent_name="notes"))
    shop = (
        agent("a2", 2, "shop"),
        model("m2", 2, "order_lookup({})", agent_name="shop"),
        good("c2", 3, agent_name="shop"),
    )

    assert verdict(*notes, *shop, question="Where is A-17?") == ("completed_with_errors", "answer_empty")
    assert verdict(*notes, *shop, question="Where is A-17?", answer="Shipped.") == (
        "succeeded",
        "no_unrecovered_error",
    )


def test_agent_that_took_over_and_stopped_after_its_tool_call_failed() -> None:
    transfer = good("c1", 1, tool="transfer_to_billing", relation="handed_over", to_agent="billing")
    front = (model("m1", 0, finish_reasons=["tool_calls"]), transfer)
    asking = model("m2", 2, "order_lookup({})", finish_reasons=["tool_calls"])

    assert verdict(*front, asking, good("c2", 3)) == ("failed", "no_answer")


def test_failure_of_an_agent_that_took_over_counts_unlike_that_of_a_called_one() -> None:
    items = (
        model("m1", 0, "Refunded.", agent_name="front", finish_reasons=["stop"]),
        model("m2", 2, agent_name="billing", finish_reasons=["tool_calls"]),
        good("c2", 3, agent_name="billing"),
    )

    def value_if_billing_was(relation: str) -> str:
        billing = {"name": "billing", "parent": "front", "relation": relation}
        return report_of(*items, agents=[{"name": "front"}, billing], answer="Refunded.").value.value

    assert value_if_billing_was("handed_over") == "completed_with_errors"
    assert value_if_billing_was("called") == "succeeded"


def test_failure_of_an_agent_that_only_the_steps_show_to_be_called_is_no_error_of_the_run() -> None:
    items = (
        agent("a1", 0, "boss", ended_at=time_text(9)),
        agent("a2", 1, "clerk", parent_step_id="a1"),
        model("m1", 1, agent_name="clerk", parent_step_id="a2", finish_reasons=["tool_calls"]),
        good("c1", 2, agent_name="clerk"),
        model("m2", 5, "I did it myself.", agent_name="boss", parent_step_id="a1", finish_reasons=["stop"]),
    )
    report = report_of(*items, agent_name="boss")

    assert by_name(report.agents)["clerk"] == ("failed", "no_answer")
    assert report.value.value == "succeeded"


def test_apology_of_another_agent_does_not_make_a_replaced_call_of_the_main_agent_an_error() -> None:
    # The reporter lists no agents, so the calls without an agent belong to the agent of the run.
    items = (
        bad("c1", 0, args={"order": "A-17"}),
        good("c2", 1, tool="search", args={"order": "A-17"}),
        model("m1", 2, "A-17 was shipped."),
        model("m2", 3, SORRY, agent_name="south"),
    )

    assert verdict(*items, agent_name="north") == ("succeeded", "no_unrecovered_error")


def test_agents_of_a_run_that_still_runs_or_was_cancelled_have_no_outcome_of_their_own() -> None:
    items = (agent("a", 0, "north"), model("m1", 0.5, "A-17 was shipped.", agent_name="north"))

    def outcome_of_north(status: str) -> tuple[str, str]:
        report = report_of(*items, status=status, agents=[{**NORTH, "answer": "A-17 was shipped."}])
        return by_name(report.agents)["north"]

    assert outcome_of_north("running") == ("unknown", "not_finished")
    assert outcome_of_north("cancelled") == ("unknown", "cancelled")
