"""Settings of a responder: those that are derived from the poll interval, and those that operators choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from relab.incidents.acting.courses import VerificationSettings
from relab.incidents.acting.planning import PlanningSettings
from relab.incidents.acting.policy import Policy
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.diagnosis.investigation import InvestigationSettings
from relab.incidents.diagnosis.modelled import ModelSettings


@dataclass(frozen=True, slots=True)
class ResponderSettings:
    """The settings of the response to one target.

    Attributes:
        poll_interval_s: the time between two polls (`POLL_INTERVAL_SECONDS`).
        approval_valid_s: how long an approval request is valid.
        stand_down_s, most_stand_downs: how long to wait before the next look after a stand-down, and how often.
        wait_s, most_waits: how long to wait for an action server that is busy or does not answer, and how often.
        remembers: whether past incidents raise priors.
        model: when a language model is asked for a second opinion, and the limits of its cost.
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
    """Return settings with times that are derived from the poll interval; from 30 s on they equal the classes' defaults.

    Args:
        poll_interval_s: the time between two polls.
        policy: the limits for actions.
        error_rate_pct: the error threshold of the seed's rule (`ANOMALY_THRESHOLD_ERROR_RATE`).
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
