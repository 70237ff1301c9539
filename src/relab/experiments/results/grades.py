"""Rate a run by grades (`grades_v1`): one word each for replay, isolation, comparability, provenance and privacy.

A grade claims only what was observed. If a better grade requires something that relab never does, such as replaying a
trial, the next lower grade is given, with a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from relab.experiments.config.models import ExperimentConfig, IntegrationLevel
from relab.experiments.models import TrialOutcome


@dataclass
class TrialTally:
    """Counts over the trials of a run. The grades of the run are computed from these counts.

    Attributes:
        outcomes: the number of trials by outcome.
        heads: for each trial `{"trial_id", "head"}`, where `head` is the last digest of the hash chain over its events.
        without_evidence: the number of trials that ran but have no evidence record.
        violated: the number of trials that violated the sanitization profile (conditions that must be equal for all
            trials).
        networks: the number of trials that ran, by the network mode that was in effect.
        with_events: the number of trials whose harness wrote events.
        with_acks: the number of trials whose harness wrote an event `control_ack`. By this event, a harness reports that
            it has read the control file. In this file, the runner asks it to continue, checkpoint or stop.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    heads: list[dict[str, str]] = field(default_factory=list)
    without_evidence: int = 0
    violated: int = 0
    networks: Counter[str] = field(default_factory=Counter)
    with_events: int = 0
    with_acks: int = 0

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add the trial of one journal entry to all counts; `entry` is the parsed JSON."""
        row = entry["row"]
        self.outcomes[row["outcome"]] += 1
        if "head" in entry:
            self.heads.append({"trial_id": row["trial_id"], "head": entry["head"]})
        if row["outcome"] != TrialOutcome.MISSING:
            self.without_evidence += "evidence" not in entry
            self.networks[row["network_mode_effective"]] += 1
        self.violated += bool(row["violations"])
        self.with_events += row["has_hook_events"]
        self.with_acks += "control_ack" in row["event_counts"]


def grades(config: ExperimentConfig, tally: TrialTally, *, is_complete: bool, is_signed: bool) -> dict[str, Any]:
    """Return the grades of a run as the JSON object `grades_v1`.

    A grade is a word that rates one property of the run: replay, isolation, comparability, provenance or privacy
    (redaction of secrets).

    Args:
        config: the experiment.
        tally: the counts over all trials that have a result.
        is_complete: whether no trial of the plan is left to run.
        is_signed: whether the run is signed with a key.
    """
    level = config.runtime.harness.integration_level
    isolation, comparability = _isolation(config, tally), _comparability(config, tally, is_complete=is_complete)
    notes = ["no trial was replayed, so the replay grade is best_effort"]
    if not is_signed:
        notes.append("the attestation is not signed")
    if tally.violated:
        notes.append(f"the sanitization profile did not hold in {tally.violated:,} trials")
    if not is_complete:
        notes.append("the run is not complete")
    provenance = "attested" if is_signed else "recorded"
    if not is_complete or tally.without_evidence:
        provenance = "partial"
    return {
        "schema_version": "grades_v1",
        "integration_level": level.value,
        "replay_grade": "best_effort",
        "isolation_grade": isolation,
        "comparability_grade": comparability,
        "provenance_grade": provenance,
        "privacy_grade": "redacted" if config.runtime.harness.secrets else "raw",
        "evidence": {
            "hooks": tally.with_events > 0,
            "traces": level is IntegrationLevel.OTEL,
            "sdk": tally.with_acks > 0,
        },
        "notes": notes,
    }


def _isolation(config: ExperimentConfig, tally: TrialTally) -> str:
    if not config.runtime.sandbox.mode.kind.isolates:
        return "leaky"
    is_closed = set(tally.networks) <= {"none"}
    carries_state = config.design.policies.state.carries_state
    return "hermetic" if is_closed and not carries_state and not tally.violated else "bounded"


def _comparability(config: ExperimentConfig, tally: TrialTally, *, is_complete: bool) -> str:
    if len(config.variants) < 2 or config.design.comparison == "none":
        return "unknown"
    if not is_complete or tally.outcomes[TrialOutcome.MISSING]:
        return "invalid"
    return "valid_paired" if config.design.comparison == "paired" else "valid_unpaired"
