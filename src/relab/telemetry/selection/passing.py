"""Find succeeded runs with the same task or version as a failed run, to compare the failed run with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from pydantic_core import from_json
from sqlalchemy import Text, cast, func, select

from relab.storage.session import DatabaseSession
from relab.telemetry.filtering import SHOWN_AGENT_RUN
from relab.telemetry.models import CALL, AgentRun, StepStatus
from relab.telemetry.outcome_models import RunOutcome
from relab.telemetry.past_models import PassedCall, PassingRun, PassingRuns
from relab.telemetry.records import version_key
from relab.telemetry.tables import AgentRunRow, TimelineItemRow
from relab.telemetry.trial_runs import is_trial, trial_ids

MAX_RUNS: Final = 20
MAX_SEARCHED: Final = 2_000
"""How many of the newest runs of the agent are searched."""
MAX_CALLS: Final = 100
"""A run with more tool calls is not compared."""
MAX_TEXT_CHARS: Final = 4_000
"""A longer answer, and longer arguments, are not read."""


class PassingReader:
    """Finds successful runs, so that the analysis of a failed run can compare the failed run with them.

    Args:
        reading: opens a read transaction.
    """

    def __init__(self, reading: Callable[[], AbstractContextManager[DatabaseSession]]) -> None:
        self._reading = reading

    def like(self, run: AgentRun) -> PassingRuns:
        """Return at most 20 succeeded runs with the same agent and task as `run`, newest first.

        If there are no such runs, return at most 20 succeeded runs with the same agent and version. Only the newest
        2,000 runs of the agent are searched, without those that have more than 100 tool calls. `run` itself is never
        returned.

        If `run` is a trial of an experiment, only trials are returned. A harness (the program that a trial executes)
        may export a trace of its own. If `run` is such a trace, only such traces are returned, without the traces of
        failed trials: a trial can fail even if its trace contains no error.
        """
        key = version_key(run.agent_name, run.environment, run.agent_version, run.prompt_hash)
        # Only the newest 2,000 runs of the agent are searched.
        with self._reading() as session:
            found: tuple[PassingRun, ...] = ()
            if run.task_id is not None:
                found = _runs(session, run, ("task_id", run.task_id))
            if found:
                return PassingRuns(same_task=True, of_trial=is_trial(run), runs=found)
            found = _runs(session, run, ("version_key", key))
            return PassingRuns(same_task=False, of_trial=is_trial(run), runs=found)


def _runs(session: DatabaseSession, run: AgentRun, like: tuple[str, str]) -> tuple[PassingRun, ...]:
    """Return at most `MAX_RUNS` succeeded runs of the same agent as `run`, newest first. `run` itself is left out.

    Only the newest `MAX_SEARCHED` runs of the agent are searched. Runs with more than `MAX_CALLS` calls are left out.

    Args:
        session: the session of the transaction.
        run: the run to compare with.
        like: `(column, value)`; only runs that have this value are returned.
    """
    row = AgentRunRow
    columns = (
        row.run_id, row.started_at, row.outcome, row.task_id, row.version_key, row.tool_call_count, row.source, row.environment,
    )  # fmt: skip
    # This reads a range of the index of agent and start, whatever the other conditions are.
    newest = (
        select(*columns)
        .where(row.agent_name == run.agent_name, SHOWN_AGENT_RUN)
        .order_by(row.started_at.desc())
        .limit(MAX_SEARCHED)
        .subquery()
    )
    statement = (
        select(newest.c.run_id, newest.c.started_at)
        .where(
            newest.c.outcome == RunOutcome.SUCCEEDED,
            newest.c.run_id != run.run_id,
            newest.c.tool_call_count <= MAX_CALLS,
            newest.c[like[0]] == like[1],
        )
        .order_by(newest.c.started_at.desc(), newest.c.run_id.desc())
    )
    if is_trial(run):
        is_trace = bool(trial_ids(run.correlation_ids))
        source = "otlp" if is_trace else "json"
        statement = statement.where(newest.c.environment == run.environment, newest.c.source == source)
        if is_trace:
            failed = _of_failed_trials(session, [found.run_id for found in session.execute(statement)])
            statement = statement.where(newest.c.run_id.not_in(failed))
    limited = session.execute(statement.limit(MAX_RUNS))
    started: dict[str, int] = {found.run_id: found.started_at for found in limited}
    answers, calls = _answers(session, list(started)), _calls(session, list(started))
    return tuple(
        PassingRun(run_id=run_id, started_at=at, answer=answers[run_id], calls=tuple(calls[run_id]))
        for run_id, at in started.items()
    )


def _of_failed_trials(session: DatabaseSession, run_ids: list[str]) -> list[str]:
    """Return those of `run_ids` that are traces of trials that did not succeed.

    The trial's own run, whose id the trace contains, has the result of the trial. If this run is not stored, the trace
    is not returned.
    """
    row = AgentRunRow
    correlated = session.execute(select(row.run_id, row.data["correlation_ids"]).where(row.run_id.in_(run_ids)))
    trials = {run_id: trial_ids(names or []) for run_id, names in correlated}
    every = {name for names in trials.values() for name in names}
    failed = set(
        session.execute(select(row.run_id).where(row.run_id.in_(every), row.outcome != RunOutcome.SUCCEEDED)).scalars()
    )
    return [run_id for run_id, names in trials.items() if not failed.isdisjoint(names)]


def _answers(session: DatabaseSession, run_ids: list[str]) -> dict[str, str | None]:
    row = AgentRunRow
    answer = func.substr(row.data["answer"].as_string(), 1, MAX_TEXT_CHARS + 1)
    return {
        run_id: _short(text)
        for run_id, text in session.execute(select(row.run_id, answer).where(row.run_id.in_(run_ids)))
    }


def _calls(session: DatabaseSession, run_ids: list[str]) -> dict[str, list[PassedCall]]:
    """Return `{run id: tool calls of the run that did not fail}`; the calls are in order of time.

    Only names and arguments are read from the database.
    """
    item = TimelineItemRow
    arguments = func.substr(cast(item.data["args_json"], Text), 1, MAX_TEXT_CHARS + 1)
    statement = (
        select(item.run_id, item.ref_id, item.data["tool_name"].as_string(), arguments)
        .where(item.run_id.in_(run_ids), item.kind == CALL, item.data["status"].as_string() != StepStatus.FAILURE.value)
        .order_by(item.run_id, item.at, item.position, item.ref_id)
    )
    found: dict[str, list[PassedCall]] = {run_id: [] for run_id in run_ids}
    for run_id, call_id, tool, text in session.execute(statement):
        short = _short(text)
        values = None if short is None else from_json(short)
        found[run_id].append(PassedCall(run_id=run_id, call_id=call_id, tool_name=tool, args_json=values))
    return found


def _short(text: str | None) -> str | None:
    return text if text is not None and len(text) <= MAX_TEXT_CHARS else None
