"""Poll one target in a loop, and respond to its open incident in a task beside the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final, cast

from langgraph.types import Command

from relab.core.errors import UnavailableError
from relab.core.logging import get_logger
from relab.incidents.checkpoints import is_outage
from relab.incidents.detection.detector import DetectionResult, Detector
from relab.incidents.detection.outages import OutageNews, OutageTracker
from relab.incidents.models import Anomaly, Severity, Snapshot
from relab.incidents.polling.poller import Poller
from relab.incidents.polling.schedule import PollSchedule
from relab.incidents.response.context import ResponseContext
from relab.incidents.response.graph import Graph
from relab.incidents.response.muting import last_ended, mute_after_end, mute_after_unseen_end
from relab.incidents.response.news import HANDED_OVER, NEWS, event_of_news, last_notice_us, unused_news
from relab.incidents.response.recovery import PASSED, Recovery
from relab.incidents.response.situation import SituationReader
from relab.incidents.response.state import IncidentState, asked_as
from relab.incidents.storage.coordination import MAX_LEASE_US
from relab.incidents.storage.errors import (
    ApprovalNotFoundError,
    BaselineTooLargeError,
    IncidentOverError,
    LeaseLostError,
)
from relab.incidents.storage.models import Incident, IncidentStatus, Lease, NewEvent

_US: Final = 1_000_000
_LEASE_POLLS: Final = 5
_MIN_LEASE_S: Final = 15.0
_MAX_LEASE_S: Final = MAX_LEASE_US / _US
_SAVE_POLLS: Final = 20
_MAX_NODE_VISITS: Final = 700
_MAX_FAILURES: Final = 5
_GIVEN_UP_S: Final = 600.0
_ORDER: Final = list(Severity)

_log = get_logger(__name__)


class Responder:
    """Watches a target: polls it, opens an incident if something is wrong, and runs the incident's workflow.

    Args:
        world: the services and settings of the workflow.
        graph: the workflow, as a LangGraph graph that was compiled with a checkpointer.
        poller: polls the target.
        detector: finds anomalies. It must use the same baseline object (the usual values of the target) as `world`.
        owner: the name under which this process acquires the target's lease.
    """

    def __init__(self, world: ResponseContext, graph: Graph, poller: Poller, detector: Detector, *, owner: str) -> None:
        self._world = world
        self._graph = graph
        self._poller = poller
        self._detector = detector
        self._owner = owner
        self._survey = SituationReader(world)
        world.watch.outages = OutageTracker(world.settings.detection.poll_interval_s)
        self._task: asyncio.Task[None] | None = None
        self._incident_id: str | None = None
        self._given_up: dict[str, float] = {}
        self.polls = 0
        self.polled_at_us: int | None = None
        self.is_leading = self.has_led = False

    @property
    def incident_id(self) -> str | None:
        """The id of the incident that this process responds to; None if there is no such incident."""
        return self._incident_id

    async def run(self, stop: asyncio.Event) -> None:
        """Poll the target until `stop` is set. An incident that is still open then is continued at the next start."""
        loop = asyncio.get_running_loop()
        rhythm = PollSchedule(self._world.settings.poll_interval_s, loop.time())
        try:
            while not stop.is_set():
                if await self._lead():
                    await self._poll()
                watch = self._world.watch
                is_pressing = watch.findings.is_pressing if self._incident_id is None else watch.outages.is_pressing()
                due_s = rhythm.after(loop.time(), is_pressing=is_pressing)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), max(due_s - loop.time(), 0.0))
        finally:
            await self._stop()

    async def _lead(self) -> bool:
        """Acquire the lease of the target, or renew it; return whether this process is now the leader."""
        world, now_us = self._world, self._world.clock.now_us()
        lasts_s = min(max(_LEASE_POLLS * world.settings.poll_interval_s, _MIN_LEASE_S), _MAX_LEASE_S)
        try:
            lease = await world.blocking(
                world.log.leases.take,
                world.target,
                self._owner,
                now_us=now_us,
                until_us=now_us + int(lasts_s * _US),
            )
            held = world.watch.lease
            if held is not None and (lease is None or lease.term != held.term):
                # Another term: another process held the lease in between, while this process was suspended.
                _log.warning("lease_lost", target=world.target)
                await self._cancel()
            if lease is not None and not self.is_leading:
                await self._take_up(lease)
        except UnavailableError as error:
            _log.warning("lease_unknown", target=world.target, error=str(error))
        return self.is_leading

    async def _take_up(self, lease: Lease) -> None:
        """Become the leader, as the holder of `lease`: load the detector's state, and continue the open incident."""
        world = self._world
        # Another process may have led for days since this process last led.
        self._detector.begin_anew()
        await world.watch.begin_anew()
        content = await world.blocking(world.log.baselines.load, world.target)
        if content is not None:
            self._detector.take(content)
        current = await world.blocking(world.log.current, world.target)
        world.watch.lease, self.is_leading, self.has_led = lease, True, True
        if current is not None:
            await self._respond(current)

    async def _poll(self) -> None:
        poll = await self._poller.poll()
        self.polls += 1
        self.polled_at_us = poll.at_us
        incident_id = self._incident_id
        findings = self._detector.observe(poll, learn=incident_id is None)
        watch = self._world.watch
        watch.findings = findings
        if findings.opens:
            watch.wrong_at_us = poll.at_us
        if findings.is_stale:
            watch.stale.add(poll.at_us)
            # Drop the times of polls that the feed no longer holds: a target may be frozen for a whole night.
            watch.stale &= {item.at_us for item in (*watch.feed.polls, poll)}
        await watch.feed.put(poll)
        if incident_id is not None and self._incident_id is None:
            # The incident has just ended: its anomalies must not open another one, so the next poll decides.
            return
        try:
            await self._notice(findings, poll)
            if self.polls % _SAVE_POLLS == 0 and self._incident_id is None:
                await self._save()
                await self._survey.settle_all()
        except (UnavailableError, IncidentOverError) as error:
            # The next poll finds the same anomalies again.
            _log.warning("poll_not_stored", target=self._world.target, error=str(error))

    async def _notice(self, findings: DetectionResult, poll: Snapshot) -> None:
        self._world.watch.outages.observe(findings, poll.at_us)
        if self._incident_id is not None:
            await self._follow(self._incident_id, findings, poll.at_us)
            return
        if findings.opens:
            ended = await last_ended(self._world)
            if await mute_after_unseen_end(self._detector, ended, self._world):
                await self._save()
                return
            opened = await self._open(findings.confirmed, "" if ended is None else ended.incident_id)
            if self._incident_id is None:
                # The responder has given the incident up for a while; people still need its notifications.
                await self._follow(opened.incident_id, findings, poll.at_us)
            return
        # People and alerts open incidents too, also in other processes.
        current = await self._world.blocking(self._world.log.current, self._world.target)
        if current is not None and self._may_respond(current.incident_id):
            await self._respond(current)

    async def _follow(self, incident_id: str, findings: DetectionResult, at_us: int) -> None:
        """Add the anomalies of a poll to the open incident, and notify people of new outages."""
        world, outages = self._world, self._world.watch.outages
        news: list[OutageNews] = []
        if outages.due(at_us, is_handed_over=True):
            news = await self._due(await world.blocking(world.log.get, incident_id), at_us)
        if not findings.confirmed and not news:
            return
        events = [event_of_news(news)] if news else []
        anomalies = (*findings.confirmed, *(item.anomaly for item in news if item.anomaly not in findings.confirmed))
        is_open = await world.blocking(self._join, incident_id, anomalies, at_us, events)
        if news and is_open:
            # Only after the database has stored them: otherwise the next poll must report them again.
            outages.note_news(news, at_us)

    async def _due(self, incident: Incident, at_us: int) -> list[OutageNews]:
        """Return the outages of which people must be notified now: new, much worse, or back after a recovery.

        `at_us` is the time of the last poll, in microseconds since 1970.
        """
        outages = self._world.watch.outages
        news = outages.due(at_us, is_handed_over=incident.status in HANDED_OVER or self._incident_id is None)
        if news and incident.status not in HANDED_OVER:
            # The notices of the responder's own work cover older outages.
            last_us = await last_notice_us(self._world, incident)
            news = [item for item in news if item.began_us >= last_us]
        return news

    def _may_respond(self, incident_id: str) -> bool:
        """Return False for `_GIVEN_UP_S` seconds after the incident's workflow failed in this process, else True."""
        return asyncio.get_running_loop().time() >= self._given_up.get(incident_id, 0.0)

    async def _open(self, anomalies: Sequence[Anomaly], last_ended_id: str) -> Incident:
        world = self._world
        severity = max((item.severity for item in anomalies), key=_ORDER.index)
        opened = await world.blocking(
            world.log.open,
            world.target,
            at_us=world.clock.now_us(),
            title=anomalies[0].detail,
            severity=severity,
            anomalies=anomalies,
            last_ended_id=last_ended_id,
        )
        if self._incident_id is None and self._may_respond(opened.incident.incident_id):
            await self._respond(opened.incident)
        return opened.incident

    def _join(self, incident_id: str, anomalies: Sequence[Anomaly], at_us: int, events: Sequence[NewEvent]) -> bool:
        # The incident may have ended while this method waited for the database; `join` returns whether it is open.
        severity = max((item.severity for item in anomalies), key=_ORDER.index)
        return self._world.log.join(incident_id, at_us=at_us, severity=severity, anomalies=anomalies, events=events)

    async def _respond(self, incident: Incident) -> None:
        world, incident_id = self._world, incident.incident_id
        notified_us = await last_notice_us(world, incident)
        if self._incident_id is not None:
            # Another task took up an incident while this one waited for the database.
            return
        seen = [(each.anomaly, each.first_at, each.last_at) for each in incident.findings]
        world.watch.outages.resume(seen, notified_us=notified_us, now_us=world.clock.now_us())
        self._incident_id = incident_id
        self._task = asyncio.create_task(self._see_through(incident_id), name=f"incident {incident_id}")
        self._task.add_done_callback(self._notice_end)

    def _notice_end(self, task: asyncio.Task[None]) -> None:
        """If the workflow in `task` failed, stop work on its incident for `_GIVEN_UP_S` seconds."""
        if task is not self._task or task.cancelled() or (error := task.exception()) is None:
            return
        _log.error("incident_dropped", incident_id=self._incident_id, exc_info=error)
        if self._incident_id is not None:
            self._given_up[self._incident_id] = asyncio.get_running_loop().time() + _GIVEN_UP_S
        self._incident_id = None

    async def _see_through(self, incident_id: str) -> None:
        """Run the workflow of an incident to its end, or until it has failed `_MAX_FAILURES` times at the same place.

        While the database is unavailable, wait; this does not count as a failure.
        """
        failures, failed_at = 0, ""
        while failures < _MAX_FAILURES:
            try:
                await self._run_graph(incident_id)
            except LeaseLostError:
                # Nothing was done: another process leads now, and continues with the incident.
                _log.warning("incident_left_to_new_leader", incident_id=incident_id)
                self._incident_id = None
                return
            except IncidentOverError:
                # A person has ended the incident.
                break
            except Exception as error:  # noqa: BLE001 whatever a node met, the incident is not dropped
                if is_outage(error):
                    # Wait as long as the outage lasts: no action may go unrecorded, and the checkpoint keeps the state.
                    _log.warning("incident_waits_for_database", incident_id=incident_id, error=str(error))
                    await self._world.pause(self._world.settings.server_retry_s)
                    continue
                reached = await self._checkpoint(incident_id)
                # Failures at different checkpoints do not add up: the graph has made progress between them.
                failures, failed_at = (failures + 1, failed_at) if reached in {failed_at, ""} else (1, reached)
                _log.exception("incident_failed", incident_id=incident_id, failures=failures)
                if not await self._append_failure(incident_id, error, failures):
                    break
                await self._world.pause(self._world.settings.server_retry_s)
            else:
                break
        else:
            # The incident is escalated to a person; the responder tries again after a while.
            self._given_up[incident_id] = asyncio.get_running_loop().time() + _GIVEN_UP_S
        await self._end(incident_id)

    async def _end(self, incident_id: str) -> None:
        """Stop work on an incident: mute (ignore) anomalies that may outlast it, and save the detector."""
        self._detector.settle()
        with contextlib.suppress(UnavailableError):
            incident = await self._world.blocking(self._world.log.get, incident_id)
            mute_after_end(self._detector, incident, self._world)
        self._incident_id = None
        await self._save()

    async def _checkpoint(self, incident_id: str) -> str:
        """Return the id of the latest checkpoint of an incident's workflow; empty if no checkpoint can be read."""
        try:
            found = await self._graph.aget_state({"configurable": {"thread_id": incident_id}})
        except Exception:  # noqa: BLE001 it is asked after an error, and must not be a second one that ends the task
            _log.exception("checkpoint_unknown", incident_id=incident_id)
            return ""
        return str(found.config.get("configurable", {}).get("checkpoint_id", ""))

    async def _run_graph(self, incident_id: str) -> None:
        config: Any = {"configurable": {"thread_id": incident_id}, "recursion_limit": _MAX_NODE_VISITS}
        before = await self._graph.aget_state(config)
        given: Any = None if before.next else {"incident_id": incident_id}
        if before.next and any(task.interrupts for task in before.tasks):
            given = Command(resume=await self._until_decided(cast("IncidentState", before.values)))
        while True:
            found = await self._graph.ainvoke(given, config, durability="sync")
            if not found.get("__interrupt__"):
                return
            given = Command(resume=await self._until_decided(cast("IncidentState", found)))

    async def _until_decided(self, state: IncidentState) -> bool | str:
        """Wait until the node that requested an approval can continue; return the value with which to resume the node.

        Returns:
            True: a person has decided, the request has expired or is missing, or no approval is needed any more.
            `PASSED`: the problem has passed by itself.
            `NEWS`: there is news that the workflow has not used yet.

        Raises:
            IncidentOverError: the incident was closed.
        """
        world, recovery = self._world, Recovery(self._world, state["incident_id"], state["symptoms"])
        while True:
            try:
                request, decision = await world.blocking(world.log.approvals.get, asked_as(state))
            except ApprovalNotFoundError:
                return True
            if decision is not None or not request.asked_at <= world.clock.now_us() < request.expires_at:
                return True
            if (await world.blocking(world.log.get, state["incident_id"])).is_over:
                raise IncidentOverError(state["incident_id"])
            await recovery.poll()
            if await recovery.has_passed():
                return PASSED
            if await self._survey.may_act_without_approval(state, request.plan):
                return True
            if await unused_news(world, state, await world.blocking(world.log.get, state["incident_id"])):
                return NEWS

    async def _append_failure(self, incident_id: str, error: Exception, failures: int) -> bool:
        """Write an error of the responder itself to the timeline; return False if the incident is over, else True.

        `failures` is the number of errors in a row. If it has reached `_MAX_FAILURES`, escalate the incident.
        """
        world = self._world
        new_event = NewEvent("failed", f"The responder itself has failed: {type(error).__name__}: {error}"[:500])
        is_last = failures >= _MAX_FAILURES
        try:
            if (await world.blocking(world.log.get, incident_id)).is_over:
                return False
            if is_last:
                await world.blocking(
                    world.log.update,
                    incident_id,
                    at_us=world.clock.now_us(),
                    events=[new_event],
                    status=IncidentStatus.ESCALATED,
                    recommendation="A person is needed: the responder itself fails.",
                )
            else:
                await world.blocking(world.log.append, incident_id, new_event, at_us=world.clock.now_us())
        except IncidentOverError:
            return False
        except UnavailableError as error_of_log:
            _log.warning("failure_not_stored", incident_id=incident_id, error=str(error_of_log))
        return True

    async def _save(self) -> None:
        world = self._world
        if self._detector.baseline.is_learnt:
            try:
                await world.blocking(
                    world.log.baselines.save, world.target, self._detector.dump(), at_us=world.clock.now_us()
                )
            except (UnavailableError, BaselineTooLargeError) as error:
                # The earlier state stays stored; a restart loads that one and learns the rest again.
                _log.warning("baseline_not_stored", target=world.target, error=str(error))

    async def _cancel(self) -> None:
        """Cancel the task that runs the incident's workflow, because this process is not the leader any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._incident_id = None
        self._world.watch.lease, self.is_leading = None, False

    async def _stop(self) -> None:
        await self._cancel()
        with contextlib.suppress(UnavailableError):
            await self._world.blocking(self._world.log.leases.release, self._world.target, self._owner)
