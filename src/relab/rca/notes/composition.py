"""Make a note (a report arranged for people) from a report and its run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, Literal, NamedTuple, TypeAlias

from relab.core.clock import format_time
from relab.core.durations import duration_text
from relab.rca.evidence import PlacedCall, PlacedStep, RunView
from relab.rca.models import Attribution, AttributionBasis, CandidateStep, EvidenceKind, GuessOdds, Report
from relab.rca.notes.models import NoteChange, NoteQuote, RunNote, WaterfallRow
from relab.rca.ranking import DETAILS
from relab.telemetry.log_models import LogLine
from relab.telemetry.models import AgentRun, GuardrailEvent, StepStatus

MAX_ROWS: Final = 200
MAX_DEPTH: Final = 12
MAX_QUESTION_CHARS: Final = 160
_INPUTS: Final = frozenset({"args_json", "args_hash", "input_summary", "name", "tool_name"})
"""Fields that are known when a step or a call begins; the others are known when it ends."""

_State: TypeAlias = Literal["cause", "candidate", "failed", "other"]


def compose_note(
    rca_run_id: str,
    run_id: str,
    report: Report,
    run: AgentRun | None,
    logs: Sequence[LogLine] = (),
    *,
    recurrence: str | None = None,
) -> RunNote:
    """Return the note of an analysis: its report, arranged for people.

    Args:
        rca_run_id: the id of the analysis.
        run_id: the id of the run.
        report: the report of the analysis.
        run: the analysed run; None if it was deleted or its content has changed since the analysis.
        logs: the warnings and errors in the log of the run's trace.
        recurrence: a sentence about other runs with the same failure, without its full stop; None if there are none.
    """
    view = None if run is None else RunView(run, (), logs)
    place = report.attribution
    rows = [] if view is None else _rows(view, report)
    shown = _near_cause(rows)
    return RunNote(
        run_id=run_id,
        rca_run_id=rca_run_id,
        headline=_headline(report, is_success=view is not None and view.succeeded),
        context=None if view is None else _context(view),
        what=report.summary,
        recurrence=None if report.insufficient_evidence else recurrence,
        where=None if place is None else _where(place, report),
        where_ref=None if place is None else place.call_id or place.step_id,
        candidates=tuple(map(_candidate, report.candidates)),
        passing=() if report.passing is None else tuple(found.sentence for found in report.passing.differences),
        judge=None if report.judge is None else report.judge.sentence(),
        doubts=_doubts(report),
        behaviours=tuple(found.line() for found in report.behaviours),
        not_judged=() if report.sentences is None else report.sentences.reasons(),
        quotes=_quotes(report, view),
        changes=tuple(
            NoteChange(priority=item.priority, title=item.title, description=item.description)
            for item in report.action_items
        ),
        rows=tuple(shown),
        rows_left_out=len(rows) - len(shown),
        is_timed=view is not None and _has_times(view),
        is_stale=view is None,
    )


def _headline(report: Report, *, is_success: bool) -> str:
    if is_success:
        return "succeeded"
    cause = report.category if report.detail is None else f"{report.category} ({report.detail})"
    if report.insufficient_evidence:
        return f"{cause}, not enough evidence"
    if not report.hypotheses:
        return str(cause)
    return f"{cause}, {report.hypotheses[0].confidence} confidence"


def _context(view: RunView) -> str:
    run = view.run
    agent = f"{run.agent_name} {run.agent_version}" if run.agent_version else run.agent_name
    place = f" in {run.environment}" if run.environment else ""
    text = f"{agent}{place} started at {format_time(run.started_at)}"
    if view.end_us > run.started_at:
        text += f" and took {duration_text((view.end_us - run.started_at) / 1_000)}"
    question = " ".join((run.question or "")[: 2 * MAX_QUESTION_CHARS].split())
    if question:
        cut = question if len(question) <= MAX_QUESTION_CHARS else f"{question[:MAX_QUESTION_CHARS]}…"
        text += f'; it was asked: "{cut}"'
    return f"{text}."


def _where(place: Attribution, report: Report) -> str:
    parts = []
    if place.call_id is not None:
        parts.append(f"call of {place.tool_name or 'a tool'} [{place.call_id}]")
    elif place.tool_name is not None:
        parts.append(f"tool {place.tool_name}")
    if place.step_id is not None:
        parts.append(f"step {place.step_name or ''} [{place.step_id}]".replace("  ", " "))
    own = next((found.agent_name for found in report.candidates if found.step_id == place.step_id), None)
    is_guess = place.basis is AttributionBasis.RANKED_GUESS
    if is_guess and own is not None and own != place.agent_name and place.agent_name is not None:
        # The most likely agent is that of all steps together, which is right more often than the agent of the first step.
        parts[-1] += f" of {own}"
        parts.append(f"though over all steps {place.agent_name} is the likeliest agent")
    elif place.agent_name is not None:
        parts.append(f"agent {place.agent_name}")
    sure = _odds(place.odds, report.gaps) if is_guess else f"{place.confidence} confidence"
    return f"{', '.join(parts) or 'the run as a whole'} ({sure})"


def _doubts(report: Report) -> tuple[str, ...]:
    """Return a text for each step or call in which the report guesses a problem, such as `name [id]: problem; problem`.

    No error shows a guessed problem; the ranking of the run's steps found it.
    """
    kinds: dict[str, list[str]] = {}
    for found in report.findings:
        if found.basis is AttributionBasis.RANKED_GUESS:
            name, ref = (
                (found.tool_name, found.call_id) if found.call_id is not None else (found.step_name, found.step_id)
            )
            detail = DETAILS.get(found.detail or "")
            kinds.setdefault(f"{name} [{ref}]", []).append(
                detail.meaning if detail else str(found.detail or "a problem")
            )
    return tuple(f"{place}: {'; '.join(dict.fromkeys(each))}" for place, each in kinds.items())


def _candidate(found: CandidateStep) -> str:
    agent = "" if found.agent_name is None else f" of {found.agent_name}"
    chance = "" if found.odds is None else f" ({found.odds.probability:.0%})"
    return f"{found.step_name} [{found.step_id}]{agent}{chance}: {'; '.join(found.reasons)}"


def _odds(odds: GuessOdds | None, gaps: Sequence[str]) -> str:
    """Return in words how likely a ranked guess is right.

    Args:
        odds: the probability of the guess, and how often such guesses were right; None if rules made the guess, because
            only trained models estimate it.
        gaps: signs that steps of the run were not recorded; the first one is mentioned.
    """
    missing = f"; steps may be missing: {gaps[0]}" if gaps else ""
    if odds is None:
        return f"ranked guess{missing}"
    chance = f"ranked guess, probability {odds.probability:.0%}"
    rate = f"; such guesses were right {odds.right} times of {odds.all}" if odds.all else ""
    return f"{chance}{rate}" if odds.stands_out else f"{chance}, no step stands out{missing}{rate}"


def _quotes(report: Report, view: RunView | None) -> tuple[NoteQuote, ...]:
    """Return a quotation for each entry of the report's evidence, in order of time; those without a time come last.

    `view` gives the times; None if they are not known.
    """
    key: set[str] = set()
    for claim in (report.attribution, *report.hypotheses[:1], *report.action_items[:1], *report.candidates[:1]):
        key.update(claim.evidence_ids if claim is not None else ())
    moments = {} if view is None else _moments(view)
    has_times = view is not None and _has_times(view)
    timed = []
    for item in report.evidence_index:
        place = moments.get((item.kind, item.ref_id))
        at = None if place is None else place.begin if item.field in _INPUTS else place.end
        # Objects with equal times, such as all of a run without times, stay in the order of the run.
        timed.append(((at is None, at or 0, place.position if place else 0), at, item))
    start = 0 if view is None else view.run.started_at
    timed.sort(key=lambda found: found[0])
    return tuple(
        NoteQuote(
            evidence_id=item.evidence_id,
            ref_id=item.ref_id,
            at=at if has_times else None,
            after_ms=(at - start) / 1_000 if has_times and at is not None else None,
            title=item.title,
            field=item.field,
            snippet=item.snippet,
            is_key=item.evidence_id in key,
        )
        for _, at, item in timed
    )


class _Moment(NamedTuple):
    """The start and end of a step, call or event of the run, in microseconds since 1970, for sorting.

    `position` is its index among the objects of its kind.
    """

    begin: int
    end: int
    position: int = 0


def _moments(view: RunView) -> dict[tuple[EvidenceKind, str], _Moment]:
    """Return the times of the objects of the run that evidence can quote, as `{(kind, id): times}`.

    Objects without a time are left out.
    """
    found: dict[tuple[EvidenceKind, str], _Moment] = {}
    for step in view.steps:
        moment = _Moment(step.step.started_at, step.ended_us, step.position)
        found.setdefault((EvidenceKind.STEP, step.step.step_id), moment)
    for call in view.calls:
        found.setdefault(
            (EvidenceKind.TOOL_CALL, call.call.call_id), _Moment(call.started_us, call.ended_us, call.position)
        )
    for event in view.run.guardrail_events:
        found.setdefault((EvidenceKind.GUARDRAIL_EVENT, event.event_id), _Moment(event.created_at, event.created_at))
    for line in view.logs:
        if line.at:
            found.setdefault((EvidenceKind.LOG_LINE, line.record_id), _Moment(line.at, line.at))
    found[EvidenceKind.RUN, view.run.run_id] = _Moment(view.run.started_at, view.end_us)
    return found


def _has_times(view: RunView) -> bool:
    starts = {placed.step.started_at for placed in view.steps} | {placed.started_us for placed in view.calls}
    ends = {placed.ended_us for placed in view.steps} | {placed.ended_us for placed in view.calls}
    return len(starts | ends) > 1


def _rows(view: RunView, report: Report) -> list[WaterfallRow]:
    """Return a row of the chart for each step, call and event of the run, in order of time.

    The depth of a row is the number of steps that enclose the step, call or event.
    """
    place = report.attribution
    states: dict[tuple[str, str | None], _State] = {("step", found.step_id): "candidate" for found in report.candidates}
    if place is not None:
        states["tool call" if place.call_id is not None else "step", place.call_id or place.step_id] = "cause"
    items: list[tuple[int, int, PlacedStep | PlacedCall | GuardrailEvent]] = [
        *((placed.step.started_at, 0, placed) for placed in view.steps),
        *((placed.started_us, 1, placed) for placed in view.calls),
        *((event.created_at, 2, event) for event in view.run.guardrail_events),
    ]
    items.sort(key=lambda item: (item[0], item[1]))
    is_timed = _has_times(view)
    rows = []
    for position, (_, _, item) in enumerate(items):
        row = _row(view, item, states)
        if not is_timed:
            row = row.model_copy(update={"begin_ms": float(position), "end_ms": float(position + 1)})
        rows.append(row)
    return rows


def _row(
    view: RunView,
    item: PlacedStep | PlacedCall | GuardrailEvent,
    states: Mapping[tuple[str, str | None], _State],
) -> WaterfallRow:
    start = view.run.started_at
    kind: Literal["step", "tool call", "guardrail event"]
    if isinstance(item, PlacedStep):
        kind, ref, label, inside = "step", item.step.step_id, item.step.name, view.parent_of(item.step.step_id)
        if item.step.agent_name is not None and item.step.agent_name != label:
            label = f"{label} ({item.step.agent_name})"
        begin, end, status = item.step.started_at, item.ended_us, item.step.status.value
    elif isinstance(item, PlacedCall):
        kind, ref, label, inside = "tool call", item.call.call_id, item.call.tool_name, item.call.step_id
        begin, end, status = item.started_us, item.ended_us, item.call.status.value
    else:
        kind, ref, label, inside = "guardrail event", item.event_id, item.type, item.step_id
        begin = end = item.created_at
        status = None
    state = states.get((kind, ref), "failed" if status == StepStatus.FAILURE else "other")
    depth = sum(1 for _ in islice(view.ancestors(inside), MAX_DEPTH))
    return WaterfallRow(
        ref_id=ref,
        kind=kind,
        label=label,
        depth=depth,
        begin_ms=(begin - start) / 1_000,
        end_ms=(max(end, begin) - start) / 1_000,
        state=state,
        status=status,
    )


def _near_cause(rows: Sequence[WaterfallRow]) -> Sequence[WaterfallRow]:
    """Return at most `MAX_ROWS` of the rows, in the same order.

    The rows of the cause and of the candidates (steps that may have gone wrong first) are kept first, then the rows
    nearest to the cause.
    """
    if len(rows) <= MAX_ROWS:
        return rows
    cause = next((index for index, row in enumerate(rows) if row.state == "cause"), 0)
    marked = {"cause", "candidate"}
    nearest = sorted(range(len(rows)), key=lambda index: (rows[index].state not in marked, abs(index - cause)))
    return [rows[index] for index in sorted(nearest[:MAX_ROWS])]
