"""How a responder behaves: what follows from its poll interval, and what its operators decide."""

from __future__ import annotations

from dataclasses import dataclass, field

from relab.incidents.acting.planning import PlanningSettings
from relab.incidents.acting.policy import Policy
from relab.incidents.acting.verification import VerificationSettings
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.diagnosis.investigation import InvestigationSettings
from relab.incidents.diagnosis.modelled import ModelSettings


@dataclass(frozen=True, slots=True)
class ResponderSettings:
    """How one target is responded to.

    Attributes:
        poll_interval_s: between two polls (`POLL_INTERVAL_SECONDS`).
        approval_valid_s: how long people have to approve.
        stand_down_s, most_stand_downs: how long is waited before looking again after standing down, and how often.
        wait_s, most_waits: the same for an action server that is busy or away.
        remembers: whether past incidents raise priors.
        model: when a language model is asked for a second opinion, and what that may cost.
    """

    poll_interval_s: float = 30.0
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    investigation: InvestigationSettings = field(default_factory=InvestigationSettings)
    planning: PlanningSettings = field(default_factory=PlanningSettings)
    policy: Policy = field(default_factory=Policy)
    verification: VerificationSettings = field(default_factory=VerificationSettings)
    approval_valid_s: float = 3_600.0
    stand_down_s: float = 30.0
    most_stand_downs: int = 5
    wait_s: float = 10.0
    most_waits: int = 6
    remembers: bool = True
    model: ModelSettings = field(default_factory=ModelSettings)


def settings_for(
    poll_interval_s: float,
    *,
    policy: Policy,
    error_rate_pct: float = 50.0,
    remembers: bool = True,
    model: ModelSettings | None = None,
) -> ResponderSettings:
    """Return settings whose times follow from the poll interval; those of 30 s are the classes' own defaults.

    Args:
        poll_interval_s: between two polls.
        policy: what may be done.
        error_rate_pct: of the seed's rule (`ANOMALY_THRESHOLD_ERROR_RATE`).
        remembers: whether past incidents raise priors.
        model: when a language model is asked; by default never.
    """
    share = min(poll_interval_s / 30.0, 1.0)

    def between(least: float, most: float) -> float:
        return least + share * (most - least)

    return ResponderSettings(
        poll_interval_s=poll_interval_s,
        detection=DetectionSettings(poll_interval_s=poll_interval_s, error_rate_pct=error_rate_pct),
        policy=policy,
        verification=VerificationSettings(
            poll_interval_s=poll_interval_s,
            sustained_s=between(8.0, 60.0),
            quiet_s=between(24.0, 180.0),
            patience_s=between(40.0, 180.0),
            cause_patience_s=between(15.0, 90.0),
            recovery_s=between(160.0, 720.0),
            window_s=between(6.0, 30.0),
        ),
        stand_down_s=between(5.0, 30.0),
        wait_s=between(2.0, 10.0),
        remembers=remembers,
        model=model or ModelSettings(),
    )
