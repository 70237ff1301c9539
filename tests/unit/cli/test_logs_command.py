"""`lab agent-runs logs`, and log records in `ingest`, `export` and `prune`."""

from __future__ import annotations

from pathlib import Path

from support.lab.cli import Lab
from support.otlp.logs import ERROR, bodies, encode_logs, exception_log, log
from support.otlp.traces import Trace, encode, span_id

TRACE = Trace("logs of the command")
HOSTILE = "\x1b[31mred\x1b[0m [bold]x[/bold]"


def ingest_trace(lab: Lab) -> None:
    lab.run("agent-runs", "ingest", "-", stdin=encode(TRACE.good(), "json"))


def test_the_log_of_a_run_is_printed_oldest_first(empty: Lab) -> None:
    ingest_trace(empty)
    records = [
        log(TRACE, "tool", {"content": "Sunny"}, name="gen_ai.choice", at_ms=3),
        log(TRACE, None, "plain line", at_ms=1, severity=ERROR),
        exception_log(TRACE, "chat", "ValueError", "no such city"),
    ]
    records[2].ClearField("body")
    told = empty.run("agent-runs", "ingest", "-", stdin=encode_logs(records, "json"))
    shown = empty.run("agent-runs", "logs", TRACE.id).out

    assert told.out == "0 created, 0 updated, 3 log records stored, 0 rejected.\n"
    assert f"Logs of {TRACE.id} (3)" in shown
    assert shown.index("no such city") < shown.index("plain line") < shown.index('{"content":"Sunny"}')
    assert span_id("tool") in shown
    assert "gen_ai.choice" in shown
    assert bodies(empty.json("agent-runs", "logs", TRACE.id)["items"]) == [None, "plain line", None]


def test_more_records_than_the_limit_are_announced(empty: Lab) -> None:
    ingest_trace(empty)
    records = [log(TRACE, "root", f"line {number}", at_ms=number) for number in range(5)]
    empty.run("agent-runs", "ingest", "-", stdin=encode_logs(records, "json"))
    shown = empty.run("agent-runs", "logs", TRACE.id, "--limit", "2").out

    assert "line 1" in shown
    assert "line 2" not in shown
    assert "Show more with --limit 4" in shown


def test_control_characters_of_a_log_line_do_not_reach_the_terminal(empty: Lab) -> None:
    ingest_trace(empty)
    empty.run("agent-runs", "ingest", "-", stdin=encode_logs([log(TRACE, "root", HOSTILE)], "json"))
    shown = empty.run("agent-runs", "logs", TRACE.id).out

    assert "\x1b" not in shown
    assert "[bold]x[/bold]" in shown


def test_exported_log_records_can_be_ingested_again(empty: Lab, tmp_path: Path) -> None:
    ingest_trace(empty)
    empty.run("agent-runs", "ingest", "-", stdin=encode_logs([log(TRACE, "root", "once")], "json"))
    path = tmp_path / "logs.jsonl"
    told = empty.run("agent-runs", "export", "--what", "logs", "--output", str(path))
    empty.run("agent-runs", "ingest", str(path))

    assert told.out == f"The log records of 1 agent run(s) exported to {path}.\n"
    assert bodies(empty.json("agent-runs", "logs", TRACE.id)["items"]) == ["once"]


def test_pruning_counts_the_records(empty: Lab) -> None:
    ingest_trace(empty)
    empty.run("agent-runs", "ingest", "-", stdin=encode_logs([log(TRACE, "root", "old")], "json"))

    assert empty.json("agent-runs", "prune", "--older-than", "30d", "--dry-run")["log_records"] == 1
    pruned = empty.run("agent-runs", "prune", "--older-than", "30d", "--yes").out
    assert pruned.startswith("1 runs with 3 spans and 1 log records that started before ")
