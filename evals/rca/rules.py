"""Trivial rules of attribution, which every method has to beat. They read the run only, like the analyser."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from evals.rca.predictions import Prediction
from relab.telemetry.models import AgentRun, Step

_EXECUTION_ERROR = re.compile(r"exitcode: [1-9-]|Traceback \(most recent call last\)|\w*Error\b")
_ERROR_WORD = re.compile(r"exitcode: [1-9-]|Traceback|[Ee]rror")
_EXECUTOR = re.compile(r"terminal|executor", re.IGNORECASE)


def strict_rule(run: AgentRun) -> Prediction:
    """Predict the step before the first non-zero exit code, traceback or error; without one, the step with index 1."""
    return _before(run, _EXECUTION_ERROR, default=1)


def first_error_word(run: AgentRun) -> Prediction:
    """Predict the step before the first text with the word "error", else the first step; the agent that speaks most."""
    found = _before(run, _ERROR_WORD, default=0)
    speakers = Counter(step.agent_name for step in run.steps if not _EXECUTOR.search(step.agent_name or ""))
    return Prediction(steps=found.steps, agent=speakers.most_common(1)[0][0] if speakers else None)


def last_step(run: AgentRun) -> Prediction:
    """Predict the last step and its agent."""
    return _at(run, len(run.steps) - 1)


def second_step(run: AgentRun) -> Prediction:
    """Predict the step with the index 1 and its agent; of a run with one step, that step."""
    return _at(run, 1)


def fifth_step(run: AgentRun) -> Prediction:
    """Predict the step with the index 4, which was chosen on the labels of the hand-crafted set; the last agent."""
    found = _at(run, 4)
    return Prediction(steps=found.steps, agent=run.steps[-1].agent_name if run.steps else None)


def failed_spans(run: AgentRun) -> Prediction:
    """Predict every span that reports an error, with the category that is the most frequent one of TRAIL."""
    failed = [step.step_id for step in run.steps if step.status == "failure"]
    failed += [call.call_id for call in run.tool_calls if call.status == "failure"]
    return Prediction(spans=frozenset((span, "Formatting Errors") for span in failed))


def model_calls(run: AgentRun) -> Prediction:
    """Predict every model call, with the category that is the most frequent one of TRAIL: the prior of the harness."""
    calls = (step.step_id for step in run.steps if getattr(step, "span_kind", None) == "LLM")
    return Prediction(spans=frozenset((span, "Formatting Errors") for span in calls))


STEP_RULES: Final[Mapping[str, Callable[[AgentRun], Prediction]]] = MappingProxyType(
    {"strict rule": strict_rule, "first error word": first_error_word, "fifth step": fifth_step, "last step": last_step}
)
SPAN_RULES: Final[Mapping[str, Callable[[AgentRun], Prediction]]] = MappingProxyType(
    {"failed spans": failed_spans, "all model calls": model_calls}
)


def _before(run: AgentRun, sign: re.Pattern[str], *, default: int) -> Prediction:
    """Predict the step before the first later step whose text has `sign`, else the step with the index `default`."""
    shown = (index for index in range(1, len(run.steps)) if sign.search(_text(run.steps[index])))
    first = next(shown, None)
    return _at(run, default if first is None else first - 1)


def _at(run: AgentRun, index: int) -> Prediction:
    if not run.steps:
        return Prediction()
    step = run.steps[min(index, len(run.steps) - 1)]
    return Prediction(steps=(step.step_id,), agent=step.agent_name)


def _text(step: Step) -> str:
    return step.output_summary or ""
