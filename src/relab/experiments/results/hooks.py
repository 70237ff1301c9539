"""Check the file of events that a harness wrote: schema, order, and the acknowledgements.

By an acknowledgement, a harness reports that it has read the control file, which contains requests of the runner. The
integration level in the manifest of the harness says whether acknowledgements are required.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jiter

from relab.experiments.config.models import IntegrationLevel
from relab.experiments.errors import ExperimentInvalidError
from relab.experiments.models import TrialIds
from relab.experiments.schemas.check import check_file
from relab.experiments.trial.events import read_events
from relab.experiments.trial.pausing import PAUSED, PausedTrial
from relab.experiments.workspace.untrusted_files import read_plain

_MANIFEST: Final = "harness_manifest_v1"
_EVENTS: Final = "hook_events_v1"
_ANSWERING: Final = frozenset((IntegrationLevel.SDK_CONTROL, IntegrationLevel.SDK_FULL))
_WRITING: Final = _ANSWERING | {IntegrationLevel.CLI_EVENTS}
_MAX_RECORD_BYTES: Final = 1_073_741_824


@dataclass(frozen=True)
class ValidHooks:
    """The result of a successful check of a harness's events.

    Attributes:
        level: the integration level (how much the harness reports to the runner), from the harness's manifest.
        events: the number of events.
        counts: the number of events by type.
    """

    level: str
    events: int
    counts: Mapping[str, int]


def validate_hooks(manifest: Path, events: Path) -> ValidHooks:
    """Check a harness's file of events against the harness's manifest.

    The control file is the file in which the runner asks the harness to continue, checkpoint or stop. These rules are
    checked:

    - Both files match their schemas.
    - All events have the ids of one trial, and `seq` increases.
    - The first event is a header event if the manifest promises one.
    - A harness that can be paused (integration level `sdk_control` or `sdk_full`) reports at the end of each step that
      it has read the control file.
    - After the harness has reported that it has read the request to stop, it starts no step. It may start one only
      after the trial was paused and then resumed.

    Args:
        manifest: the manifest, `harness_manifest_v1`.
        events: the events, one JSON object in each line.

    Raises:
        ExperimentInvalidError: a file is missing, the manifest has an integration level without events, or a rule is
            violated. `problems` has the first violations.
    """
    check_file(manifest, _MANIFEST)
    declared = jiter.from_json(manifest.read_bytes())
    level = IntegrationLevel(declared["integration_level"])
    if level not in _WRITING:
        raise ExperimentInvalidError(
            f"{manifest} has the level {level.value}, whose harnesses write no events.",
            remedy=f"Events belong to {', '.join(sorted(each.value for each in _WRITING))}.",
        )
    check_file(events, _EVENTS, is_lines=True)
    first = jiter.from_json(next(line for line in events.read_bytes().splitlines() if line.strip()))
    if declared["hooks"].get("header_event_emitted") and first.get("hooks_schema_version") != _EVENTS:
        _refuse(events, [f"line 1: the first event has no hooks_schema_version {_EVENTS!r}, as the manifest declares"])
    stream = read_events(
        events,
        TrialIds(**first["ids"]),
        below=events.parent,
        is_answered=level in _ANSWERING,
        resumed_after=_pauses(events.parent.parent),
    )
    if stream.problems:
        _refuse(events, stream.problems)
    return ValidHooks(level.value, len(stream.events), dict(stream.counts))


def _refuse(events: Path, problems: list[str]) -> None:
    pairs: list[tuple[str, str]] = []
    for problem in problems:
        line, _, what = problem.partition(": ")
        pairs.append((f"{events}:{line.removeprefix('line ')}", what))
    raise ExperimentInvalidError(f"{pairs[0][0]}: {pairs[0][1]}.", problems=tuple(pairs))


def _pauses(folder: Path) -> list[int]:
    """Return the number (`seq`) of the last event before each pause of a trial, ascending.

    `folder` is the folder of the trial.
    """
    found: list[int] = []
    for path in folder.glob(f"segments/*/{PAUSED}"):
        raw: Any = read_plain(path, _MAX_RECORD_BYTES, below=folder)
        if raw is not None:
            found += PausedTrial.model_validate_json(raw).seqs
    return sorted(set(found))
