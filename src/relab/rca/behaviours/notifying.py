"""Decide whether people are notified of a run that shows a behaviour: only of the first run in each time window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select, update

from relab.rca.tables import RcaBehaviourNoticeRow
from relab.storage.base import table_of
from relab.storage.session import DatabaseSession
from relab.storage.upsert import insert_into
from relab.telemetry.models import AgentRun

if TYPE_CHECKING:
    from relab.rca.behaviours.rules import BehaviourRule

_MINUTE_US: Final = 60_000_000
NEWS_US: Final = 24 * 60 * _MINUTE_US
"""No notification is sent about a run that ended longer ago than this (1 day)."""


def notice_of(
    session: DatabaseSession, rule: BehaviourRule, run: AgentRun, *, step_name: str | None, now_us: int
) -> dict[str, Any] | None:
    """Return the notification about a run that shows a behaviour, as JSON; None if no notification is due.

    A time window begins with a notification and lasts for `every_minutes` of the rule. Other runs in the window get no
    notification; they are counted, and the next notification states their number. No notification is due either if the
    rule has no `notify`, or if the run ended (without an end: started) more than a day ago.

    Args:
        session: the session of the transaction, in which the time window is stored.
        rule: the rule of the behaviour.
        run: the run.
        step_name: the name of the step that shows the behaviour; None if no step does.
        now_us: the current time in microseconds since 1970.
    """
    if rule.notify is None or (run.ended_at or run.started_at) < now_us - NEWS_US:
        return None
    counted = _take_turn(session, rule.name, now_us, rule.notify.every_minutes * _MINUTE_US)
    if counted is None:
        return None
    details = [("run", run.run_id)]
    if step_name is not None:
        details.append(("step", step_name))
    if counted:
        details.append(("also", f"{counted} more run{'s' if counted > 1 else ''} since the notice before"))
    return {
        "topic": f"behaviour {rule.name}",
        "seq": now_us,
        "at_us": now_us,
        "target": run.agent_name,
        "severity": rule.notify.severity,
        "title": "A run shows a behaviour",
        "headline": f"{rule.name}: {rule.description}",
        "details": details,
        "pages": rule.notify.page,
    }


def _take_turn(session: DatabaseSession, behaviour: str, now_us: int, every_us: int) -> int | None:
    """Decide whether a run that shows a behaviour gets a notification: only the first run in each time window gets one.

    Args:
        session: the session of the transaction.
        behaviour: the name of the behaviour (a pattern that a rule describes).
        now_us: the current time, in microseconds since 1970.
        every_us: the length of a window, in microseconds.

    Returns:
        None if the run gets no notification; the run is counted in the current window. Otherwise a new window begins
            with this run, and the result is the number of runs that were counted in the previous window, or 0.
    """
    row = RcaBehaviourNoticeRow
    table = table_of(row)
    first = insert_into(session, table).values(behaviour=behaviour, noticed_at=now_us, counted=0)
    if session.execute(first.on_conflict_do_nothing().returning(row.behaviour)).one_or_none() is not None:
        return 0
    counted: int = session.execute(select(row.counted).where(row.behaviour == behaviour)).scalar_one()
    # A window that begins in the future began before the clock was set back.
    is_over = (row.noticed_at <= now_us - every_us) | (row.noticed_at > now_us)
    begun = update(table).where(row.behaviour == behaviour, is_over).values(noticed_at=now_us, counted=0)
    if session.execute(begun.returning(row.behaviour)).one_or_none() is not None:
        return counted
    session.execute(update(table).where(row.behaviour == behaviour).values(counted=row.counted + 1))
    return None
