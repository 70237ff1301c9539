"""Notes of a report: evidence in order of time, a marked cause, one screen, and hostile texts kept as data."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from relab.cli.rca.note import HEIGHT, MIN_HEIGHT, WIDTH, print_note
from relab.rca.analyzer import analyze
from relab.rca.notes.composition import MAX_ROWS, compose_note
from relab.rca.notes.markdown import to_markdown
from relab.rca.notes.models import RunNote
from relab.rca.notes.page import render_note_page
from relab.telemetry.models import AgentRun
from support.telemetry.runs import RunBody, examples, failed_run, step, texts, time_text, tool_call
from unit.rca.builders import agent_run, event, failed

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1> [red]`x` **b**\u202e\x1b[2J"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")


def note_of(run: AgentRun) -> RunNote:
    return compose_note("rca-1", run.run_id, analyze(run), run)


def printed(note: RunNote, width: int = 200) -> list[str]:
    stream = io.StringIO()
    print_note(note, Console(file=stream, width=width))
    return stream.getvalue().splitlines()


def long_run(steps: int) -> AgentRun:
    body = [step(f"s{number}", started_at=time_text(number)) for number in range(steps)]
    call = tool_call(
        "c1", step_id=f"s{steps // 2}", started_at=time_text(steps // 2), status="failure", error_class="TimeoutError"
    )
    return agent_run(steps=body, tool_calls=[call])


def test_evidence_is_in_order_of_time() -> None:
    calls = [
        failed("c2", 9.0, error_message="read timed out", error_class="TimeoutError"),
        failed("c1", 1.0, error_message="403 forbidden for role reader", status_code=403),
    ]
    note = note_of(agent_run(tool_calls=calls, guardrail_events=[event("g1", 4.0, message="policy broken")]))

    times = [quote.after_ms for quote in note.quotes if quote.after_ms is not None]
    assert times == sorted(times)
    assert {"c1", "g1", "c2"} <= {quote.ref_id for quote in note.quotes}


def test_cause_is_marked_in_the_waterfall() -> None:
    note = note_of(agent_run(tool_calls=[failed("c1", 1.0, error_message="timed out", error_class="TimeoutError")]))

    assert [row.ref_id for row in note.rows if row.state == "cause"] == ["c1"]
    assert note.where_ref == "c1"


def test_run_without_times_is_shown_in_its_order() -> None:
    steps = [
        step(f"s{number}", name="turn", agent_name=f"a{number}", output_summary=f"said {number}") for number in range(4)
    ]
    note = note_of(agent_run(steps=steps))

    assert not note.is_timed
    assert [(row.ref_id, row.begin_ms) for row in note.rows] == [(f"s{number}", float(number)) for number in range(4)]
    assert [quote.after_ms for quote in note.quotes] == [None] * len(note.quotes)
    assert [quote.ref_id for quote in note.quotes] == sorted(quote.ref_id for quote in note.quotes)


def test_waterfall_of_a_long_run_has_the_rows_around_the_cause() -> None:
    note = note_of(long_run(1_000))

    assert len(note.rows) == MAX_ROWS
    assert note.rows_left_out == 1_001 - MAX_ROWS
    assert {"s499", "s500", "c1"} <= {row.ref_id for row in note.rows}


def test_note_of_a_changed_run_has_no_times() -> None:
    run = agent_run(tool_calls=[failed("c1", error_message="timed out", error_class="TimeoutError")])
    note = compose_note("rca-1", run.run_id, analyze(run), None)

    assert note.is_stale
    assert note.rows == ()
    assert {quote.after_ms for quote in note.quotes} == {None}
    assert "changed since" in to_markdown(note)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_note_fits_one_screen(width: int) -> None:
    calls = [
        failed(f"c{number}", number, error_message=f"timed out {HOSTILE} {'long ' * 99}", error_class="TimeoutError")
        for number in range(50)
    ]
    steps = [step(f"s{number}", name=HOSTILE * 3, output_summary="text " * 99) for number in range(30)]
    lines = printed(note_of(agent_run(steps=steps, tool_calls=calls, question=HOSTILE * 9)), width)

    assert len(lines) <= HEIGHT
    assert max(map(cell_len, lines)) <= min(WIDTH, width)
    assert not any(OBEYED.search(line) for line in lines)


@pytest.mark.parametrize("height", [10, 24, 30, 200])
def test_note_fits_the_height_of_a_terminal(height: int) -> None:
    calls = [failed(f"c{number}", number, error_message=f"timed out {'long ' * 99}") for number in range(50)]
    steps = [step(f"s{number}", agent_name="a", output_summary="text " * 99) for number in range(30)]
    note = note_of(agent_run(steps=steps, tool_calls=calls, question="why " * 99))
    stream = io.StringIO()
    print_note(note, Console(file=stream, width=100, height=height, force_terminal=True))
    lines = stream.getvalue().splitlines()

    assert len(lines) <= min(HEIGHT, max(MIN_HEIGHT, height))
    assert "More: lab rca" in lines[-1]


def quiet_turns(**fields: Any) -> AgentRun:
    """Return a run of three turns without an error."""
    steps = [
        step(f"t{number}", name="turn", agent_name="a", output_summary=f"Said {number}.", started_at=time_text(number))
        for number in range(3)
    ]
    return agent_run(steps=steps, **fields)


def test_headline_of_a_run_that_succeeded_names_no_category() -> None:
    assert printed(note_of(quiet_turns(status="success")))[0] == "Run run-1: succeeded"


def test_note_without_an_error_names_the_guess_and_the_steps_to_read() -> None:
    note = note_of(quiet_turns())

    assert "No step or tool call reports an error" in note.what
    assert 'A ranked guess of the first mistake is step "turn"' in note.what
    assert note.changes[0].title == "Read the steps that may have gone wrong first"


def test_recurrence_is_left_out_without_a_known_cause() -> None:
    run = quiet_turns()

    assert (
        compose_note("rca-1", run.run_id, analyze(run), run, recurrence="3 runs failed the same way").recurrence is None
    )


def test_guessed_problems_are_named_with_their_kind_in_words() -> None:
    calls = [
        tool_call(
            "c1",
            step_id="t1",
            started_at=time_text(2),
            status="failure",
            error_message="NameError: name 'x' is not defined",
        )
    ]
    run = agent_run(
        steps=[
            step("t0", span_kind="agent", name="Step 1", started_at=time_text(0)),
            step("t1", span_kind="llm", name="model", started_at=time_text(1), output_summary="Thought: run it"),
            step("t2", span_kind="llm", name="model", started_at=time_text(3), output_summary="Sorry, that failed."),
        ],
        tool_calls=calls,
    )  # fmt: skip
    note = note_of(run)

    assert all(re.match(r"\S.* \[\w+\]: [a-z]", text) for text in note.doubts)


def test_refusal_by_a_content_policy_is_explained_by_its_message() -> None:
    error = (
        "Error code: 400 - {'error': {'code': 'content_filter', 'message': 'The prompt was filtered.', 'status': 400}}"
    )
    note = note_of(quiet_turns(error_type="BadRequestError", error_message=error))

    assert "`The prompt was filtered.`" in note.what
    assert "page or a document" in note.changes[0].description


def test_long_arguments_are_cut_early_in_the_summary() -> None:
    call = failed("c1", 1.0, error_message="it broke", error_class="ValueError", args_json={"code": "x = 1; " * 100})
    note = note_of(agent_run(tool_calls=[call]))

    assert note.what.count("x = 1;") < 15


@given(text=texts | st.just(HOSTILE) | st.just("漢" * 300))
@examples(40)
def test_any_text_fits_one_screen_and_is_data(text: str) -> None:
    body: RunBody = failed_run("r", error_message=text, question=text)
    body["tool_calls"] = [tool_call("c1", status="failure", error_message=text, result_summary=text)]
    body["steps"] = [step(f"s{number}", output_summary=text) for number in range(4)]
    note = note_of(AgentRun.model_validate(body))
    lines = printed(note)

    assert len(lines) <= HEIGHT
    assert max(map(cell_len, lines)) <= WIDTH
    assert not any(OBEYED.search(line) for line in lines)
    assert not OBEYED.search(to_markdown(note))


@pytest.mark.parametrize("fields", [{}, {"steps": []}, {"steps": [], "tool_calls": [], "question": ""}])
def test_minimal_run_has_a_note(fields: dict[str, Any]) -> None:
    run = agent_run(**fields)

    assert printed(note_of(run))[0].startswith("Run run-1: unknown")
    assert "<h1>Run run-1</h1>" in render_note_page(note_of(run), "0")


def test_page_escapes_markup_of_the_run_and_contains_no_url() -> None:
    call = failed("c1", 1.0, tool_name=HOSTILE, error_message=f"timed out {HOSTILE}", error_class="TimeoutError")
    page = render_note_page(note_of(agent_run(agent_name=HOSTILE, tool_calls=[call], question=HOSTILE)), "0")

    assert "<img" not in page
    assert "<script>window" not in page
    assert page.count("&lt;img") >= 3
    assert "http" not in page.replace("http-equiv", "")
    assert not OBEYED.search(page)
