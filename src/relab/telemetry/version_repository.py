"""Queries over the runs of one version of an agent, and over the version before it."""

from __future__ import annotations

from sqlalchemy import func, select

from relab.storage.session import DatabaseSession
from relab.telemetry.filtering import SHOWN_AGENT_RUN
from relab.telemetry.models import AgentRun
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.past_models import PastRun
from relab.telemetry.tables import AgentRunRow


def list_two_versions(session: DatabaseSession, run: AgentRun, version_key: str, limit: int) -> list[PastRun]:
    """Return runs of the version of `run` and of the version before it, oldest first; empty without a previous version.

    Args:
        session: the session of the transaction.
        run: the run. Runs that started later are not returned; the run itself may be in the result.
        version_key: the version key of `run`.
        limit: the maximum number of runs of each version; the newest runs are returned.
    """
    first = _first_start(session, version_key, run.started_at)
    before = run.started_at if first is None else first
    previous = _version_before(session, run.agent_name, run.environment, before)
    if previous is None:
        return []
    runs = [past for key in (version_key, previous) for past in _list_version(session, key, run.started_at, limit)]
    return sorted(runs, key=lambda item: (item.started_at, item.run_id))


def _first_start(session: DatabaseSession, version_key: str, until_us: int) -> int | None:
    """Return the start of the oldest run of a version; None if no run of the version started at or before `until_us`.

    Both times are in microseconds since 1970.
    """
    statement = select(func.min(AgentRunRow.started_at)).where(
        AgentRunRow.version_key == version_key, AgentRunRow.started_at <= until_us, SHOWN_AGENT_RUN
    )
    return session.execute(statement).scalar_one()


def _version_before(session: DatabaseSession, agent_name: str, environment: str | None, before_us: int) -> str | None:
    """Return the version key of an agent's newest run that started before `before_us`; None if there is no such run.

    Only runs with this `environment` (None: without one) count. `before_us` is in µs since 1970. See `version_key`.
    """
    statement = (
        select(AgentRunRow.version_key)
        .where(
            AgentRunRow.agent_name == agent_name,
            AgentRunRow.environment == environment if environment is not None else AgentRunRow.environment.is_(None),
            AgentRunRow.started_at < before_us,
            SHOWN_AGENT_RUN,
        )
        .order_by(AgentRunRow.started_at.desc(), AgentRunRow.run_id.desc())
        .limit(1)
    )
    return session.execute(statement).scalar_one_or_none()


def _list_version(session: DatabaseSession, version_key: str, until_us: int, limit: int) -> list[PastRun]:
    """Return up to `limit` runs of the agent version with the key `version_key`, newest first.

    Only runs that started at or before `until_us`, in microseconds since 1970, are returned.
    """
    statement = (
        select(
            AgentRunRow.run_id,
            AgentRunRow.agent_version,
            AgentRunRow.prompt_hash,
            AgentRunRow.started_at,
            AgentRunRow.outcome,
            AgentRunRow.step_count,
            AgentRunRow.tool_stats,
        )
        .where(AgentRunRow.version_key == version_key, AgentRunRow.started_at <= until_us, SHOWN_AGENT_RUN)
        .order_by(AgentRunRow.started_at.desc(), AgentRunRow.run_id.desc())
        .limit(limit)
    )
    return [
        PastRun(
            run_id=row.run_id,
            agent_version=row.agent_version,
            prompt_hash=row.prompt_hash,
            started_at=row.started_at,
            outcome=RunOutcome(row.outcome),
            step_count=row.step_count,
            tool_call_counts={tool: calls for tool, (calls, _) in row.tool_stats.items()},
        )
        for row in session.execute(statement)
    ]
