"""Runs that people have labelled; ranking models are trained on them."""

from __future__ import annotations

from dataclasses import dataclass

from relab.telemetry.models import AgentRun

MIN_RUNS = 10
"""With fewer labelled runs, too few could be held out of the training."""


@dataclass(frozen=True)
class TrainingRun:
    """A run with the labels that a person gave it.

    Attributes:
        run: the run.
        group: the task of the run. In a cross-validation, all runs of one task are in the same fold.
        step_id: the id of the step that went wrong first; None if this was not labelled.
        problems: pairs `(id of a step or tool call, kind of its problem)`; empty if problems were not labelled.
    """

    run: AgentRun
    group: str
    step_id: str | None = None
    problems: frozenset[tuple[str, str]] = frozenset()
