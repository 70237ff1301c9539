"""`lab metrics`: reports the runs that its figures lack because they are not projected yet."""

from __future__ import annotations

import pytest

from relab.telemetry.projection.projector import MAX_SUM_SIZE
from support.lab.cli import Lab
from support.otlp.traces import AGENT, Trace, encode


@pytest.mark.full
def test_last_line_says_how_many_runs_are_not_in_the_figures(empty: Lab) -> None:
    spans = [Trace("large").span(f"span-{number}", None, AGENT) for number in range(MAX_SUM_SIZE + 1)]
    empty.run("agent-runs", "ingest", "-", stdin=encode(spans, "json"))

    printed = empty.run("metrics", "--hours", "1000000").out.splitlines()

    assert printed[-1].startswith("Runs that arrived and are not in these figures yet: 1.")
    # No worker will ever add them, so running the command again would not help.
    assert printed[-1].endswith("No worker is running to add them: start one, or run lab agent-runs remap.")
    assert empty.json("metrics", "--hours", "1000000")["unprojected_runs"] == 1
    empty.run("agent-runs", "remap")
    assert empty.json("metrics", "--hours", "1000000")["total_runs"] == 1
    assert "not in these figures" not in empty.run("metrics", "--hours", "1000000").out
