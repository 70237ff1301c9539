"""Measure how often reports agree with labels (what people state about the first mistake of a run). Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from relab.rca.labels.models import LabelledRun, LabelScore, LabelScores
from relab.rca.models import Report
from relab.stats.intervals import wilson

STEP, TOP_THREE, AGENT, CATEGORY = "step", "step, top 3", "agent", "category"
QUESTIONS = (STEP, TOP_THREE, AGENT, CATEGORY)


def measure(pairs: Iterable[tuple[LabelledRun, Report]]) -> LabelScores:
    """Return how often reports agree with labels; `pairs` are labelled runs with their reports.

    Whether the first wrong step agrees is scored three times: over all reports, over the reports that name a place
    because of evidence, and over the reports that name a place by a ranking only.
    """
    found: dict[str, list[bool]] = defaultdict(list)
    labelled = changed = abstained = 0
    for item, report in pairs:
        labelled += 1
        label, agents = item.label, {step.step_id: step.agent_name for step in item.run.steps}
        if label.step_id is not None and label.step_id not in agents:
            changed += 1
            continue
        place = report.attribution
        abstained += place is None
        step = _step(item, report)
        if label.step_id is not None:
            named = (step, *(candidate.step_id for candidate in report.candidates))
            first_three = list(dict.fromkeys(place for place in named if place is not None))[:3]
            found[STEP].append(step == label.step_id)
            found[TOP_THREE].append(label.step_id in first_three)
            if place is not None:
                found[f"{STEP}, by {place.basis.replace('_', ' ')}"].append(step == label.step_id)
        agent = label.agent_name or agents.get(label.step_id or "")
        if agent is not None:
            said = place.agent_name if place is not None else None
            found[AGENT].append(agent == (said or agents.get(step or "")))
        if label.category is not None:
            found[CATEGORY].append(label.category in {report.category.value, report.detail})
    names = [*QUESTIONS, *sorted(found.keys() - set(QUESTIONS))]
    return LabelScores(
        labelled=labelled,
        changed=changed,
        abstained=abstained,
        scores=[_score(name, found[name]) for name in names],
    )


def _step(item: LabelledRun, report: Report) -> str | None:
    """Return the id of the step that the report names as the place of the failure; None if it names none.

    If the report names a tool call, this is the step of the call.
    """
    place = report.attribution
    if place is None or place.step_id is not None:
        return place.step_id if place is not None else None
    return next((call.step_id for call in item.run.tool_calls if call.call_id == place.call_id), None)


def _score(question: str, hits: list[bool]) -> LabelScore:
    n, count = len(hits), sum(hits)
    interval = wilson(count, n) if n else None
    return LabelScore(
        question=question,
        n=n,
        hits=count,
        rate=count / n if n else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
    )
