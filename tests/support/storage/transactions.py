"""Transactions that fail, and those that wait for a lock."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import text

from relab.storage import Database, UnitOfWork


class BreakdownError(Exception):
    """The error that `roll_back` raises in a transaction."""


def roll_back(database: Database, work: Callable[[UnitOfWork], object]) -> None:
    """Do the work in a transaction that fails afterwards.

    Raises:
        AssertionError: the transaction did not raise the failure.
    """
    try:
        with database.write() as unit:
            work(unit)
            _break_down()
    except BreakdownError:
        return
    raise AssertionError("the failure was swallowed")


def _break_down() -> None:
    raise BreakdownError


def transaction_waits(database: Database) -> bool:
    """Return whether a transaction of this PostgreSQL database waits for a lock."""
    question = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with database.read() as session:
        return bool(session.execute(question).scalar_one())
