"""`lab agent-runs list`: the traces that it leaves out."""

from __future__ import annotations

from support.lab.cli import Lab
from support.otlp.traces import Trace, encode

LEFT_OUT = "without an agent, workflow, model call or tool call left out. Show them with --all-traces.\n"


def test_list_says_how_many_traces_without_agent_activity_it_leaves_out(empty: Lab) -> None:
    agent, plain = Trace("agent"), Trace("plain")
    empty.run("agent-runs", "ingest", "-", stdin=encode([*agent.good(), plain.span("query")], "json"))

    few, every = (empty.run("agent-runs", "list", *given).out for given in ((), ("--all-traces",)))

    assert few.endswith(f"\n1 trace {LEFT_OUT}")
    assert plain.id not in few
    assert plain.id in every
    assert LEFT_OUT not in every


def test_list_counts_only_the_traces_between_the_runs_that_it_shows(empty: Lab) -> None:
    old, new, plain = Trace("old"), Trace("new"), Trace("plain")
    spans = [plain.span("query", start_ms=0), *old.good()]
    spans += [new.span("root", None, {"gen_ai.operation.name": "invoke_agent"}, start_ms=50, end_ms=60)]
    empty.run("agent-runs", "ingest", "-", stdin=encode(spans, "json"))

    assert LEFT_OUT not in empty.run("agent-runs", "list", "--limit", "1").out
    assert LEFT_OUT in empty.run("agent-runs", "list", "--limit", "2").out


def test_list_says_that_it_did_not_count_all_of_very_many_traces(empty: Lab) -> None:
    many = [Trace(f"query {number}").span("query") for number in range(1_001)]
    empty.run("agent-runs", "ingest", "-", stdin=encode(many, "json"))

    assert empty.run("agent-runs", "list").out.endswith(f"\nAt least 1,000 traces {LEFT_OUT}")


def test_empty_list_says_how_to_store_runs(empty: Lab) -> None:
    assert empty.run("agent-runs", "list").out.startswith("No agent runs found. To store runs: lab agent-runs ingest")
    assert empty.json("agent-runs", "list")["items"] == []
