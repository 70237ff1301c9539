"""Store results of analyses beside a run, so that lists of runs can show them and filter by them."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import and_, delete, func, insert, not_, select

from relab.storage import Database
from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.telemetry import repository
from relab.telemetry.tables import AgentRunRow, RunBehaviourRow


class RunMarks:
    """Stores two results of analyses beside a run: its failure category, and the behaviours (patterns) in it.

    A result is stored only if the run still has the content that was analysed.

    Args:
        database: the database of the runs.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def label(self, agent_run_id: str, content_hash: str, category: str, confidence: str | None) -> bool:
        """Store the failure category that an analysis found in a run, with its confidence; return True.

        Return False, and store nothing, if the run was deleted or if its content hash is no longer `content_hash`.
        """
        # The commit need not wait for the disk: if a power failure loses it, it also loses the end of the job, which is
        # then repeated.
        with self._database.write(durable=False) as unit:
            return repository.set_category(unit.session, agent_run_id, content_hash, category, confidence)

    def set_behaviours(
        self, agent_run_id: str, content_hash: str, names: Collection[str], *, kept: Collection[str] = ()
    ) -> None:
        """Replace the stored behaviours (patterns that rules describe) of a run by the results of a search.

        Store nothing if the run was deleted or if its content hash is no longer `content_hash`.

        Args:
            agent_run_id: the id of the run.
            content_hash: the hash of the content that was searched.
            names: the behaviours that the search found.
            kept: behaviours that this search did not cover. Their stored results stay if they are for the same content.
        """
        table = table_of(RunBehaviourRow)
        with self._database.write(durable=False) as unit:
            content = repository.get_content(unit.session, agent_run_id)
            if content is None or content.content_hash != content_hash:
                return
            is_kept = and_(table.c.content_hash == content_hash, table.c.behaviour.in_(kept))
            unit.session.execute(delete(table).where(table.c.run_id == agent_run_id, not_(is_kept)))
            rows = [
                {"run_id": agent_run_id, "behaviour": name, "content_hash": content_hash}
                for name in set(names) - set(kept)
            ]
            if rows:
                unit.session.execute(insert(table), rows)

    def content_showing(self, behaviour: str, agent_run_ids: Collection[str]) -> dict[str, str]:
        """Return `{run id: content hash}` of the given runs in which an analysis found the behaviour (a pattern).

        The hash is that of the analysed content; the run's content may have changed since then.
        """
        row = RunBehaviourRow
        found: dict[str, str] = {}
        with self._database.read() as session:
            for ids in chunks(agent_run_ids):
                statement = select(row.run_id, row.content_hash).where(row.behaviour == behaviour, row.run_id.in_(ids))
                found.update((run_id, content) for run_id, content in session.execute(statement))
        return found

    def count_behaviours(self) -> dict[str, int]:
        """Return `{behaviour: number of runs in whose present content an analysis found this pattern}`."""
        row, run = RunBehaviourRow, AgentRunRow
        is_current = and_(run.run_id == row.run_id, run.content_hash == row.content_hash)
        with self._database.read() as session:
            found = session.execute(
                select(row.behaviour, func.count()).join(table_of(run), is_current).group_by(row.behaviour)
            )
            return {name: number for name, number in found}  # noqa: C416 rows are no pairs to mypy
