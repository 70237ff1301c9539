"""The demo's view of an incident: printed events and diagnosis, and the problems of its end."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from demo.incident_view import Ending, ending_panel, event_lines, line
from demo.responder_client import Told

EVIL = "[bold]not markup[/bold] \x1b[31mnot red"
MENDED = Ending(
    cause="connection_pool_leak",
    truth=None,
    outcome="resolved",
    diagnosis="connection_pool_leak",
    probability=0.994,
    acts=["remediate-db-pool-exhaustion: verified"],
    badly_served_s=8.4,
    well_pct=100.0,
    detected_s=1.2,
    over_s=20.5,
    files=[Path("postmortem.html")],
)


def printed(shown):
    """Return the text that a terminal would show, without line breaks."""
    out = StringIO()
    Console(file=out, width=100, color_system=None).print(shown)
    return " ".join(out.getvalue().split())


def test_diagnosis_is_shown_with_its_evidence_and_the_next_step():
    log_line = '{"level": "error", "message": "QueuePool limit reached"}'
    evidence = [
        {
            "evidence_id": "ev-1",
            "fact": "logs.pool",
            "value": 7.0,
            "request": "actions GET /logs",
            "verbatim": log_line,
        },
        {"evidence_id": "ev-2", "fact": "pool.used", "value": 15, "request": "target GET /pool", "verbatim": EVIL},
    ]
    candidates = [
        {"cause": "leak", "probability": 0.99},
        {"cause": "unknown", "probability": 0.009},
        {"cause": "lock", "probability": 0.0},
    ]
    told = Told("diagnosed", "The cause is leak.", {"evidence": evidence, "candidates": candidates})
    shown = printed(event_lines(told, 3.44))
    assert "3.4 s cause The cause is leak. Next: unknown (0.009)." in shown
    assert "ev-1 logs.pool = 7.0, by actions GET /logs: “QueuePool limit reached”" in shown
    assert "[bold]not markup[/bold] \N{REPLACEMENT CHARACTER}[31mnot red" in shown
    assert "lock" not in shown


def test_technical_events_are_not_shown():
    assert event_lines(Told("signals", "13 polls are kept.", {}), 1.0) is None


@pytest.mark.parametrize("kind", ["opened", "planned", "act_finished", "verified", "closed"])
def test_text_of_the_responder_is_printed_without_markup_or_control_characters(kind):
    assert "[bold]not markup[/bold] \N{REPLACEMENT CHARACTER}" in printed(event_lines(Told(kind, EVIL, {}), 0.0))
    assert "\x1b" not in printed(line("broken", EVIL, 0.0))


@pytest.mark.parametrize(
    ("ending", "problem"),
    [
        (replace(MENDED, truth="connections still leak"), "not mended: connections still leak"),
        (replace(MENDED, outcome=None), "still open"),
        (replace(MENDED, outcome="passed"), "ended as passed"),
        (replace(MENDED, diagnosis="database_lock"), "named database_lock"),
        (replace(MENDED, diagnosis=None), "named none"),
    ],
)
def test_ending_reports_its_problem(ending, problem):
    (told,) = ending.problems
    assert problem in told


def test_expected_end_has_no_problem_and_names_its_files():
    assert MENDED.problems == []
    shown = printed(ending_panel(MENDED))
    assert "connection_pool_leak (0.99)" in shown
    assert "postmortem.html" in shown
    assert "8 s of bad service" in shown
