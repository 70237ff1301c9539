"""`lab prices`: lists and sets prices, and estimates the costs of stored runs from them."""

from __future__ import annotations

import json

from support.lab.cli import Lab
from support.telemetry.runs import minimal_run

SET = ("prices", "set", "scripted-1", "--provider", "own", "--input", "2", "--output", "8", "--as-of", "2026-01-31")
TOKENS = {"tokens_prompt": 1_000, "tokens_completion": 100}


def test_price_that_is_set_estimates_stored_runs_at_once(empty: Lab) -> None:
    run = minimal_run("r", model="scripted-1", cost=TOKENS)
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps([run, minimal_run("silent")]))

    before = empty.json("agent-runs", "show", "r")["run"]["cost_estimate"]
    assert before["total_cost_usd"] is None
    assert "lab prices set" in before["missing"]

    assert empty.json(*SET)["price"]["is_own"] is True
    [listed] = empty.json("prices", "list", "--model", "scripted-1", "--provider", "own")["items"]
    assert listed["is_own"] is True
    assert listed["as_of"] == "2026-01-31"
    shown = empty.json("agent-runs", "show", "r")["run"]
    assert shown["cost"]["total_cost_usd"] is None
    assert shown["cost_estimate"]["total_cost_usd"] == 0.0028
    assert shown["cost_estimate"]["prices_as_of"] == "2026-01-31"
    assert "0.0028 USD (estimated, prices of 2026-01-31)" in empty.run("agent-runs", "show", "r").out

    figures = empty.json("metrics", "--hours", "1000000")
    assert figures["total_cost_usd"] is None
    assert figures["estimated_cost_usd"] == 0.0028
    assert figures["runs_without_estimate"] == 1
    assert figures["tokens"]["prompt"] == 1_000


def test_invalid_price_names_its_field(empty: Lab) -> None:
    refused = empty.run("prices", "set", "m", "--provider", "p", "--input", "-1", "--output", "0", code=64)

    assert "input" in refused.err
    assert "-1.0" in refused.err
    assert "USD for a million tokens" in refused.err
