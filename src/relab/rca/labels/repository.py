"""Store, read and delete labels of runs, and the ranking models that were trained on labels.

Every function takes the session of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import delete, insert, select, tuple_, update

from relab.rca.labels.models import RunLabel
from relab.rca.tables import RcaLabelRow, RcaRankingModelRow
from relab.storage.base import table_of
from relab.storage.bulk import chunks
from relab.storage.session import DatabaseSession

_COLUMNS: Final[tuple[Any, ...]] = tuple(table_of(RcaLabelRow).c[name] for name in RunLabel.model_fields)


def save(session: DatabaseSession, label: RunLabel) -> None:
    """Store the label of a run. It replaces an older label of the run."""
    table, values = table_of(RcaLabelRow), label.model_dump()
    if session.execute(select(table.c.run_id).where(table.c.run_id == label.run_id)).one_or_none() is None:
        session.execute(insert(table).values(**values))
    else:
        session.execute(update(table).where(table.c.run_id == label.run_id).values(**values))


def get(session: DatabaseSession, run_id: str) -> RunLabel | None:
    """Return the label of a run; None if it has none."""
    row = session.execute(select(*_COLUMNS).where(RcaLabelRow.run_id == run_id)).one_or_none()
    return None if row is None else _label(row)


def list_labels(session: DatabaseSession, before: tuple[int, str] | None, limit: int) -> list[RunLabel]:
    """Return at most `limit` labels, the newest first.

    `before` is `(time of labelling, run id)` of the last label of the previous page; None for the first page.
    """
    key = tuple_(RcaLabelRow.labelled_at, RcaLabelRow.run_id)
    statement = select(*_COLUMNS).order_by(RcaLabelRow.labelled_at.desc(), RcaLabelRow.run_id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(key < before)
    return [_label(row) for row in session.execute(statement)]


def remove(session: DatabaseSession, run_id: str) -> bool:
    """Delete the label of a run; return False if it has none."""
    statement = delete(table_of(RcaLabelRow)).where(RcaLabelRow.run_id == run_id).returning(RcaLabelRow.run_id)
    return session.execute(statement).one_or_none() is not None


def delete_for_runs(session: DatabaseSession, run_ids: Iterable[str], before_us: int) -> None:
    """Delete the labels of deleted runs.

    Labels that were given after `before_us` (microseconds since 1970) are kept.
    """
    for ids in chunks(run_ids):
        row = RcaLabelRow
        session.execute(delete(table_of(row)).where(row.run_id.in_(ids), row.labelled_at <= before_us))


def _label(row: Any) -> RunLabel:
    return RunLabel.model_validate(dict(zip(RunLabel.model_fields, row, strict=True)))


def save_model(session: DatabaseSession, source: str, artefact: str, trained_at: int) -> None:
    """Store a ranking model. It replaces an older model with the same source.

    Args:
        session: the session of the transaction.
        source: the text `agent NAME`, with the name of the agent whose runs the model ranks.
        artefact: the model as JSON.
        trained_at: the time of training, in microseconds since 1970.
    """
    remove_model(session, source)
    table = table_of(RcaRankingModelRow)
    session.execute(insert(table).values(source=source, trained_at=trained_at, artefact=artefact))


def remove_model(session: DatabaseSession, source: str) -> bool:
    """Delete the ranking model for the runs of one agent; return False if there is no such model.

    `source` identifies the model: the text `agent NAME`.
    """
    row = RcaRankingModelRow
    statement = delete(table_of(row)).where(row.source == source).returning(row.source)
    return session.execute(statement).one_or_none() is not None


def model_versions(session: DatabaseSession) -> tuple[tuple[str, int], ...]:
    """Return `(source, time of training)` of each stored ranking model, the oldest first.

    A source is the text `agent NAME`, with the name of the agent whose runs the model ranks. The time is in
    microseconds since 1970.
    """
    row = RcaRankingModelRow
    found = session.execute(select(row.source, row.trained_at).order_by(row.trained_at, row.source))
    return tuple((source, trained_at) for source, trained_at in found)


def model_artefacts(session: DatabaseSession) -> list[str]:
    """Return the JSON documents (artefacts) of all stored ranking models, the oldest first."""
    row = RcaRankingModelRow
    return list(session.execute(select(row.artefact).order_by(row.trained_at, row.source)).scalars())
