"""The page of a root cause analysis, opened from the disk in a real browser: without a network, with hostile text."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.rca.analyzer import analyze
from relab.rca.notes.composition import compose_note
from relab.rca.notes.page import render_note_page
from relab.telemetry.models import AgentRun
from support.components.browser import chromium, watched_page
from support.telemetry.runs import minimal_run, step, time_text, tool_call

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1><b>bold</b> " + "long" * 100


@pytest.mark.full
def test_page_draws_the_waterfall_with_hostile_names(tmp_path: Path) -> None:
    steps = [step(f"s{n}", name=HOSTILE, started_at=time_text(n), ended_at=time_text(n + 1)) for n in range(5)]
    call = tool_call(
        "c1", step_id="s3", started_at=time_text(3), status="failure", error_class="TimeoutError", error_message=HOSTILE
    )
    run = AgentRun.model_validate(minimal_run(status="failure", steps=steps, tool_calls=[call], question=HOSTILE))
    file = tmp_path / "note.html"
    file.write_text(render_note_page(compose_note("a", run.run_id, analyze(run), run)))

    with chromium() as browser:
        for scheme, width in (("light", 1_280), ("dark", 420)):
            watched = watched_page(browser, width, scheme)
            watched.page.goto(file.as_uri())
            watched.page.locator("svg.marks").wait_for()
            assert watched.complaints == []
            assert watched.requests == [file.as_uri()]
            assert watched.page.evaluate("window.pwned") is None
            assert watched.page.locator("img, b").count() == 0
            assert watched.page.locator("svg .mark-rect path").count() == 6
            assert watched.page.locator("#cause").count() == 1
            assert watched.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
