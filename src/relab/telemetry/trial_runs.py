"""Recognize the agent runs that come from trials of relab's own experiments."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from relab.telemetry.models import RunFields

ENVIRONMENT: Final = "experiment"
"""The environment of all runs of trials, and of the traces that their harnesses export."""
_TRIAL_ID: Final = re.compile(r".+\.trial_\d+")


def is_trial(run: RunFields) -> bool:
    """Return whether a run belongs to a trial of an experiment.

    It is either the run of the trial itself, or a trace that the harness (the program that a trial executes) exported.
    The version of both is the variant of the experiment. Variants run side by side, so none of them is the previous
    version of another.
    """
    if run.environment != ENVIRONMENT:
        return False
    posted: Any = (run.model_extra or {}).get("experiment")
    if isinstance(posted, dict) and "variant_id" in posted:
        return True
    return bool(trial_ids(run.correlation_ids))


def trial_ids(correlation_ids: Iterable[str]) -> list[str]:
    """Return the correlation ids that have the form of a trial's run id, `<run>.trial_<n>`."""
    return [name for name in correlation_ids if _TRIAL_ID.fullmatch(name)]
