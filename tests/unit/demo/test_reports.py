"""Analysis of the demo's runs: it names the failure of the tool server from the recorded runs alone."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from demo.agents_act import EXPECTED
from relab.core.json import parse_json
from relab.rca.analyzer import analyze
from relab.rca.models import Category
from relab.telemetry.models import AgentRun
from relab.telemetry.outcome import activities_of, outcome_of
from relab.telemetry.past_models import PastRun


def recorded(run):
    """Parse a run as the API does."""
    return AgentRun.model_validate(parse_json(json.dumps(run).encode()))


def summary_of(run):
    """Return the summary of a run that a comparison of versions uses."""
    return PastRun(
        run_id=run.run_id,
        agent_version=run.agent_version,
        prompt_hash=run.prompt_hash,
        started_at=run.started_at,
        outcome=outcome_of(run, activities_of(run)).value,
        step_count=len(run.steps),
        tool_call_counts=dict(Counter(call.tool_name for call in run.tool_calls)),
    )


@pytest.mark.parametrize("key", EXPECTED)
def test_the_report_agrees_with_the_tool_server(stage, key):
    runs = [recorded(run) for run in stage.play(key)]
    report = analyze(runs[-1], [summary_of(run) for run in runs])
    assert EXPECTED[key].disagreement(report) is None


def test_prompt_regression_is_not_found_without_past_runs(stage):
    report = analyze(recorded(stage.play("prompt")[-1]))
    assert report.category is not Category.PROMPT_REGRESSION
