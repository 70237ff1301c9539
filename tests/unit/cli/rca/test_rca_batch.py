"""`lab rca --all` and `lab rca clusters` without a worker."""

from __future__ import annotations

import json

from relab.cli.output import EXIT_USAGE
from support.lab.cli import Lab
from support.telemetry.runs import failed_run, minimal_run


def test_all_failed_runs_are_analysed_and_clustered(empty: Lab) -> None:
    runs = [*(failed_run(f"r{n}", agent_version="1.2.0") for n in range(3)), minimal_run("good")]
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(runs))
    done = empty.json("rca", "--all", "--agent", "shop-agent")
    again = empty.run("rca", "--all").out
    clusters = empty.json("rca", "clusters")

    assert (done["runs"], done["new"], done["failed"]) == (3, 3, 0)
    assert {item["status"] for item in done["items"]} == {"done"}
    assert "3 failed runs, 0 analysed now" in again
    assert [(item["runs"], item["first_version"]) for item in clusters["items"]] == [(3, "1.2.0")]
    assert "3 runs failed the same way" in empty.run("rca", "clusters").out
    assert "3 runs failed the same way" in empty.run("rca", "r0").out
    assert empty.json("rca", "--all", "--since", "1h")["runs"] == 0
    assert [run["category"] for run in empty.json("agent-runs", "list", "--outcome", "failed")["items"]] == [
        clusters["items"][0]["category"]
    ] * 3


def test_incompatible_options_are_rejected(empty: Lab) -> None:
    for words in (
        ("--all", "r1"),
        ("--all", "--full"),
        ("--all", "--judge", "rerank"),
        ("r1", "--judge", "oracle"),
        ("r1", "--agent", "a"),
        ("--force",),
        ("clusters", "--category", "x"),
    ):
        empty.run("rca", *words, code=EXIT_USAGE)


def test_report_files_are_not_replaced_without_being_asked(empty: Lab) -> None:
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(failed_run("r1")))
    page = empty.home / "r1.html"
    empty.run("rca", "r1", "--html", str(page))
    empty.run("rca", "r1", "--html", str(page), code=1)
    empty.run("rca", "r1", "--html", str(page), "--overwrite")

    assert "<h1>Run r1</h1>" in page.read_text()
    assert empty.run("rca", "r1", "--markdown").out.startswith("# Run r1: ")


def test_judge_without_a_model_is_rejected_before_anything_is_queued(empty: Lab) -> None:
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(failed_run("r1")))
    refused = empty.run("rca", "r1", "--judge", "all_at_once", code=None)

    assert refused.code != 0
    assert "No language model is configured" in refused.err
    assert empty.json("rca", "r1", "--judge", "off")["judge"] == "off"
