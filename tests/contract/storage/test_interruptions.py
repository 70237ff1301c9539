"""Ctrl-C while a pooled connection to PostgreSQL is checked: the interruption is not hidden by the driver's error."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from relab.storage.engine import create_database_engine, parse_url


def test_interruption_of_the_check_of_a_connection_is_raised(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_database_engine(parse_url(postgres_url))
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))

    def interrupted(_connection: Any) -> bool:
        try:
            raise KeyboardInterrupt
        finally:
            # As psycopg does if the setting `autocommit` is changed while a query is running.
            raise psycopg.ProgrammingError("can't change 'autocommit' now: connection in transaction status ACTIVE")

    with monkeypatch.context() as patch:
        patch.setattr(engine.dialect, "do_ping", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.connect()

    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


def test_error_of_the_driver_without_an_interruption_is_reported(postgres_url: str) -> None:
    engine = create_database_engine(parse_url(postgres_url))

    with engine.connect() as connection, pytest.raises(Exception, match="does not exist"):
        connection.execute(text("SELECT * FROM nothing"))
    engine.dispose()
