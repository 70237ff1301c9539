"""Settings of a responder: those that are derived from the poll interval, and those that operators choose."""

from __future__ import annotations

from dataclasses import dataclass, field

from relab.incidents.actions.planning import PlanningSettings
from relab.incidents.actions.policy import Policy
from relab.incidents.actions.verification_models import VerificationSettings
from relab.incidents.detection.settings import DetectionSettings
from relab.incidents.diagnosis.settings import InvestigationSettings, ModelSettings
from relab.incidents.polling.schedule import requested_window_s


@dataclass(frozen=True, slots=True)
class ResponderSettings:
    """The settings of the response to one target.

    Attributes:
        poll_interval_s: the time between two polls, in seconds (`POLL_INTERVAL_SECONDS`).
        detection, investigation, planning, policy, verification: the settings of these parts of the response.
        approval_valid_s: how long an approval request is valid, in seconds.
        stand_down_s: the length of one wait, in seconds, if the policy temporarily forbids every action.
        max_stand_downs: the number of such waits before an incident is handed over to people.
        stand_down_timeout_s: the time limit for these waits and the diagnoses between them, in seconds. When it has
            passed, no other wait begins, and the incident is handed over to people.
        rediagnosis_timeout_s: the time limit for repetitions of a new diagnosis, in seconds from its beginning. It is
            repeated if it finds no cause although the earlier diagnosis was confirmed. The first try is always
            completed.
        server_retry_s: the wait before a retry if the action server (executes repairs) does not answer, or refuses an
            action only for the moment, in seconds.
        max_server_retries: the maximum number of these retries.
        use_incident_history: whether past incidents raise the prior probabilities of causes.
        model: when a language model gives a second opinion, and the limits of its cost.
    """

    poll_interval_s: float = 30.0
    detection: DetectionSettings = field(default_factory=DetectionSettings)
    investigation: InvestigationSettings = field(default_factory=InvestigationSettings)
    planning: PlanningSettings = field(default_factory=PlanningSettings)
    policy: Policy = field(default_factory=Policy)
    verification: VerificationSettings = field(default_factory=VerificationSettings)
    approval_valid_s: float = 3_600.0
    # The responder must not act while a kill switch is on, while people or other clients act, while the measured values
    # are stale, or while the host and several dependencies fail at once.
    stand_down_s: float = 30.0
    max_stand_downs: int = 5
    stand_down_timeout_s: float = 300.0
    rediagnosis_timeout_s: float = 120.0
    server_retry_s: float = 10.0
    max_server_retries: int = 6
    use_incident_history: bool = True
    model: ModelSettings = field(default_factory=ModelSettings)


def settings_for(
    poll_interval_s: float,
    *,
    policy: Policy,
    critical_error_rate_pct: float = 50.0,
    use_incident_history: bool = True,
    model: ModelSettings | None = None,
) -> ResponderSettings:
    """Return the settings of a responder, with durations that suit the poll interval.

    An interval of 30 s or more gives the default durations; a shorter interval gives shorter ones.

    Args:
        poll_interval_s: the time between two polls, in seconds.
        policy: the limits for actions.
        critical_error_rate_pct: the threshold of the detector `seed_rule` (`ANOMALY_THRESHOLD_ERROR_RATE`). The
            detector reports an anomaly if more than this percentage of requests fails, answers are slow, and the
            target's connection pool is in a critical state.
        use_incident_history: whether past incidents raise the prior probabilities of causes.
        model: when a language model is called; None: never.
    """
    share = min(poll_interval_s / 30.0, 1.0)

    def between(least: float, most: float) -> float:
        return least + share * (most - least)

    return ResponderSettings(
        poll_interval_s=poll_interval_s,
        detection=DetectionSettings(poll_interval_s=poll_interval_s, critical_error_rate_pct=critical_error_rate_pct),
        policy=policy,
        verification=VerificationSettings(
            poll_interval_s=poll_interval_s,
            min_healthy_s=between(8.0, 60.0),
            min_quiet_s=between(24.0, 180.0),
            effect_timeout_s=between(40.0, 180.0),
            cause_timeout_s=between(15.0, 90.0),
            recovery_timeout_s=between(160.0, 720.0),
            metrics_window_s=between(6.0, 30.0),
            requested_window_s=requested_window_s(poll_interval_s),
        ),
        stand_down_s=between(5.0, 30.0),
        stand_down_timeout_s=between(60.0, 300.0),
        rediagnosis_timeout_s=between(15.0, 120.0),
        server_retry_s=between(2.0, 10.0),
        use_incident_history=use_incident_history,
        model=model or ModelSettings(),
    )
