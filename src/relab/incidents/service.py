"""The use cases of the responder for API and CLI: read its status and incidents, and store decisions of people."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relab.core.clock import Clock
from relab.core.composed import composed
from relab.core.errors import ConfigurationError
from relab.incidents.actions.approvals import Decision, request_to_answer
from relab.incidents.actions.policy import Autonomy, Policy
from relab.incidents.alertmanager import AlertNotification, read_notification
from relab.incidents.briefing import Briefing, brief
from relab.incidents.diagnosis.settings import AskWhen, ModelSettings
from relab.incidents.errors import NoQuestionError, NoTargetError, NoTargetYetError
from relab.incidents.event_labels import label_of
from relab.incidents.models import Anomaly, Severity
from relab.incidents.postmortem.models import Postmortem
from relab.incidents.postmortem.service import PostmortemService, events_of
from relab.incidents.retention import Retention
from relab.incidents.settings import settings_for
from relab.incidents.storage.coordination import NOTICES
from relab.incidents.storage.ending import MAX_CLOSING_NOTE, manual_closing
from relab.incidents.storage.errors import ApprovalNotFoundError
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.metrics import DURATION_BOUNDS_S, DurationHistogram, IncidentMetrics
from relab.incidents.storage.models import (
    Incident,
    IncidentOutcome,
    IncidentPage,
    IncidentStatus,
    IncidentSummary,
    SwitchState,
    TimelineEvent,
)
from relab.incidents.target import WatchedTarget, action_token, target_name
from relab.incidents.views import (
    AlertsAccepted,
    IncidentDetails,
    Question,
    ResponderStatus,
    Triggered,
    open_incident,
)
from relab.progress.signal import ProgressSignal
from relab.storage import Database
from relab.telemetry.service import TelemetryService

if TYPE_CHECKING:
    from relab.incidents.response.responder import Responder
    from relab.knowledge.service import KnowledgeService

__all__ = [
    "DURATION_BOUNDS_S",
    "MAX_CLOSING_NOTE",
    "AlertNotification",
    "AlertsAccepted",
    "AskWhen",
    "Autonomy",
    "Briefing",
    "Decision",
    "DurationHistogram",
    "IncidentDetails",
    "IncidentMetrics",
    "IncidentPage",
    "IncidentService",
    "IncidentStatus",
    "IncidentSummary",
    "ModelSettings",
    "Policy",
    "Postmortem",
    "ResponderStatus",
    "SwitchState",
    "TimelineEvent",
    "Triggered",
    "WatchedTarget",
    "label_of",
    "settings_for",
    "target_name",
]


class IncidentService:
    """The use cases of incident response: run the responder, read incidents, decide on plans, pause the responder.

    Args:
        signal: wakes the readers that follow timelines.
        knowledge: returns runbooks and past incidents; called when a responder starts or a person ends an incident.
        telemetry: stores each incident as an agent run.
        home: the folder for the responder's checkpoints if the database is SQLite.
        watched: a function that returns the watched target, or None if no target is watched. It is not called before
            the target is needed: for invalid settings it raises ConfigurationError, and incidents must be readable even so.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        signal: ProgressSignal,
        knowledge: Callable[[], KnowledgeService],
        telemetry: TelemetryService,
        *,
        home: Path,
        watched: Callable[[], WatchedTarget | None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._knowledge = knowledge
        self._telemetry = telemetry
        self._home = home
        self._find_watched = watched
        self._responder: Responder | None = None
        self.log = IncidentLog(database, signal, lambda *given: knowledge().forget(*given))
        self.postmortems = PostmortemService(self.log)
        self.retention = Retention(database, self.log, home)

    @composed
    def watched(self) -> WatchedTarget | None:
        """The watched target; None if no target is watched. Reading it raises ConfigurationError for invalid settings."""
        return self._find_watched()

    def check(self) -> None:
        """Check that the responder can be started for the configured target; do nothing if no target is configured.

        Raises:
            ConfigurationError: a setting of the target is not valid, the address of the action server is not valid, or
                the token for the action server is missing or not valid. A responder that may only observe needs no
                token.
        """
        if self.watched is not None:
            # The HTTP client takes long to load, and most processes send no actions.
            from relab.incidents.actions.client import ActionsClient

            ActionsClient(self.watched.actions_url, action_token(self.watched))

    @asynccontextmanager
    async def responding(self) -> AsyncIterator[None]:
        """Watch the target and respond to its incidents while the `async with` block runs; do nothing without a target.

        Raises:
            ConfigurationError: a setting of the target is not valid, the token for the action server is missing, an
                excluded runbook does not exist, or PostgreSQL is not set up to store checkpoints.
            RunbookFolderError: the folder of runbooks in the settings cannot be read.
            UnavailableError: PostgreSQL cannot be reached, or the file of checkpoints cannot be opened.
        """
        if self.watched is None:
            yield
            return
        # The graph's library takes long to load, and most processes do not respond to incidents.
        from relab.incidents.runtime import ResponderServices, running_responder

        means = ResponderServices(self._database, self._clock, self.log, self._knowledge(), self._telemetry, self._home)
        async with running_responder(self.watched, means) as responder:
            self._responder = responder
            try:
                yield
            finally:
                self._responder = None

    def status(self) -> ResponderStatus:
        """Return the state of the responder in this process, with the target's open incident and open approval requests.

        The incident and the requests are reported even if another process handles them.

        Raises:
            ConfigurationError: the settings of the target are not valid.
        """
        watched, responder = self.watched, self._responder
        policy = watched.settings.policy if watched is not None else Policy()
        current = self.log.current(watched.name) if watched is not None else None
        switch = self.log.switches.state(watched.name if watched is not None else "")
        pending = self.log.approvals.pending(now_us=self._clock.now_us(), target=watched.name) if watched else []
        spent = watched.gateway.spent if watched is not None and watched.gateway is not None else None
        return ResponderStatus(
            target=watched.name if watched is not None else None,
            autonomy=policy.autonomy,
            autonomy_by_class=dict(policy.autonomy_by_class),
            leading=responder is not None and responder.is_leading,
            polls=0 if responder is None else responder.polls,
            polled_at=None if responder is None else responder.polled_at_us,
            paused=switch.is_paused,
            paused_by=switch.by if switch.is_paused else None,
            incident=None
            if current is None
            else open_incident(current, self.log.actions.of_incident(current.incident_id)),
            approvals=[request.approval_id for request in pending],
            cost_usd=0.0 if spent is None else spent.usd,
            tokens=0 if spent is None else spent.prompt_tokens + spent.completion_tokens,
        )

    def get(self, incident_id: str) -> IncidentDetails:
        """Return an incident with its actions and approval requests.

        Raises:
            NotFoundError: no incident has this id.
        """
        from relab.incidents.tracing.projection import agent_run_id

        incident = self.log.get(incident_id)
        questions = [
            Question(request=request, decision=decision)
            for request, decision in self.log.approvals.of_incident(incident_id)
        ]
        known = {name: getattr(incident, name) for name in Incident.model_fields}
        return IncidentDetails(
            **known,
            agent_run_id=agent_run_id(incident_id),
            actions=self.log.actions.of_incident(incident_id),
            questions=questions,
        )

    def briefing(self, incident_id: str) -> Briefing:
        """Return the information about an incident that a person needs for a decision.

        It contains the approval requests that a person can still approve, so none if the incident is over.

        Raises:
            NotFoundError: no incident has this id.
        """
        found, now_us = self.get(incident_id), self._clock.now_us()
        waiting = self.log.approvals.pending(now_us=now_us, target=found.target)
        return brief(events_of(self.log, incident_id), [each for each in waiting if each.incident_id == incident_id])

    def timeline(self, incident_id: str, after: int = 0) -> list[TimelineEvent]:
        """Return at most 5,000 events of an incident, in order: those with numbers greater than `after`.

        Raises:
            NotFoundError: no incident has this id.
        """
        self.log.get(incident_id)
        return self.log.read_after(incident_id, after)

    def decide(self, approval_id: str, *, approved: bool, by: str, note: str = "") -> Decision:
        """Approve or reject the plan of an approval request, and return the decision.

        Args:
            approval_id: the id of an approval request, or the id of an incident, for its last approval request.
            approved: True to approve the plan, False to reject it.
            by: the name of the person who decides.
            note: the person's remark.

        Raises:
            NotFoundError: neither an approval request nor an incident with a request has this id.
            ConflictError: the person approves, but the request has expired, the plan was rejected already, the incident
                is over, or `approval_id` is the id of an incident whose approval requests are about different plans.
            InvalidInputError: `by` is empty.
        """
        asked = self.log.approvals.of_incident(approval_id)
        question = request_to_answer(asked, approved=approved).approval_id if asked else approval_id
        try:
            return self.log.approvals.decide(question, approved=approved, by=by, now_us=self._clock.now_us(), note=note)
        except ApprovalNotFoundError as error:
            raise NoQuestionError(
                f"There is no approval request {approval_id[:200]!r}, and no incident with this id that has one.",
                remedy="`lab incidents show` lists the approval requests of an incident.",
            ) from error

    def dismiss(self, incident_id: str, *, by: str, why: str = "") -> IncidentDetails:
        """Dismiss an incident as a false positive, and return it; an incident that is over does not change.

        From then on, its anomalies are ignored until they become worse, or have been absent for ten minutes (critical
        anomalies: for a few polls). Worse is a higher severity, or a value that is more than 20 % farther from the
        expected value.

        Args:
            incident_id: the id of the incident.
            by: the name of the person who dismisses it.
            why: the reason, which is stored in the incident's timeline.

        Raises:
            NotFoundError: no incident has this id.
        """
        said = f"{by} dismissed the incident as a false positive{f': {why}' if why else '.'}"
        self.log.close(incident_id, at_us=self._clock.now_us(), outcome=IncidentOutcome.DISMISSED, message=said)
        return self.get(incident_id)

    def close(
        self, incident_id: str, *, by: str, note: str, cause: str | None = None, if_status: IncidentStatus | None = None
    ) -> IncidentDetails:
        """Close an incident because a person says that the service is repaired, and return it.

        The responder stops, and nothing is learnt from the incident. A repeated call with the same texts changes nothing.

        Args:
            incident_id: the id of the incident.
            by: the name of the person.
            note: what was done, which is stored in the incident's timeline.
            cause: the name of the cause; None if the person names none.
            if_status: close the incident only if it has this status; None for any status.

        Raises:
            NotFoundError: no incident has this id.
            ConflictError: the incident ended in another way or by another such call, or has another status than
                `if_status`.
            InvalidInputError: `by`, `note` or `cause` is not valid.
        """
        closing = manual_closing(by, note, cause)
        self.log.closings.close(incident_id, closing, at_us=self._clock.now_us(), if_status=if_status)
        return self.get(incident_id)

    def pause(self, *, by: str, why: str = "", target: str | None = None) -> SwitchState:
        """Turn on the kill switch of a target, or of all targets (None), and return the new state of the switch.

        While the switch is on, the responder requests no actions on the target; polls and probes continue. `by` is
        the name of the person, and `why` the reason.
        """
        return self.log.switches.pause(target, by=by, why=why, at_us=self._clock.now_us())

    def resume(self, *, by: str, why: str = "", target: str | None = None) -> SwitchState:
        """Turn off the kill switch of a target, or of all targets (None), and return the new state of the switch.

        With None, a target whose own switch is on stays paused. While the switch of all targets is on, every target
        stays paused. `by` is the name of the person, and `why` the reason.
        """
        return self.log.switches.resume(target, by=by, why=why, at_us=self._clock.now_us())

    def targets(self) -> list[str]:
        """Return the names of the watched target and of all targets that a process on this database has ever watched.

        If the settings of this process's target are not valid, the target appears only if it was watched earlier.
        """
        names = set(self.log.leases.targets())
        with suppress(ConfigurationError):
            if self.watched is not None:
                names.add(self.watched.name)
        return sorted(names)

    def trigger(self, detail: str, *, by: str, target: str | None = None) -> Triggered:
        """Open an incident for a problem that a person reports, or add the report to the target's open incident.

        The responder begins to work on the incident after its next poll of the target.

        Args:
            detail: the problem, in a person's words.
            by: the name of the person.
            target: the name of the target; None: the target of this process, or the only target of other processes.

        Raises:
            NoTargetError: `target` is None, this process watches no target, and others watch none or several.
            ConfigurationError: `target` is None, and the settings of this process's target are not valid.
        """
        said = detail.strip() or "A person reports a problem."
        anomaly = Anomaly("trigger", "trigger", Severity.WARNING, None, None, f"{by}: {said}")
        opened = self.log.open(
            target or self._target(),
            at_us=self._clock.now_us(),
            title=said,
            severity=Severity.WARNING,
            anomalies=[anomaly],
        )
        return Triggered(incident_id=opened.incident.incident_id, created=opened.created)

    def take_in_alerts(self, document: Any) -> AlertsAccepted:
        """Store the alerts of a notification from Alertmanager; an alert that is received again counts only once.

        Args:
            document: the JSON that Alertmanager's webhook sends.

        Raises:
            InvalidInputError: the document is not a notification from Alertmanager.
            NoTargetYetError: no target is watched yet; the sender should retry.
            NoTargetError: this process watches no target, and others watch several; a retry does not help.
            ConfigurationError: the settings of this process's target are not valid.
        """
        sent = read_notification(document)
        taken = self.log.alerts.take_in(
            self._target(without=NoTargetYetError),
            sent.group_key,
            sent.alerts,
            at_us=self._clock.now_us(),
            title=sent.title,
            severity=sent.severity,
        )
        return AlertsAccepted(
            fresh=len(taken.fresh),
            incident_id=None if taken.opened is None else taken.opened.incident.incident_id,
            created=taken.opened is not None and taken.opened.created,
        )

    def _target(self, *, without: type[NoTargetError | NoTargetYetError] = NoTargetError) -> str:
        """Return the name of the target that this process watches, or else of the only target that others watch.

        Args:
            without: the class of the error to raise if no process watches a target.

        Raises:
            NoTargetError: this process watches no target, and other processes watch several; or see `without`.
            NoTargetYetError: no process watches a target, and `without` is this class.
            ConfigurationError: the settings of this process's target are not valid.
        """
        if self.watched is not None:
            return self.watched.name
        leases = self.log.leases.held(now_us=self._clock.now_us())
        names = [lease.target for lease in leases if not lease.target.startswith(NOTICES)]
        if len(names) != 1:
            raise NoTargetError(names) if names else without()
        return names[0]
