"""Revision 0007 on a used database: an installation that ever had a token is closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from relab.access.models import AccessState
from relab.access.service import AccessService
from relab.core.clock import SystemClock
from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

REVOKED_AT = 1_800_000_000_000_000


@pytest.fixture
def older(database_at: Callable[[str], Database]) -> Database:
    """A database at revision 0006."""
    return database_at("0006")


def add_token(database: Database, revoked_at: int | None) -> None:
    with database.write() as unit:
        unit.session.execute(
            text(
                "INSERT INTO access_tokens (token_id, name, secret_hash, scopes, created_at, revoked_at) "
                "VALUES ('t', 'ci', 'x', '[\"read\"]', 1700000000000000, :revoked_at)"
            ),
            {"revoked_at": revoked_at},
        )


@pytest.mark.parametrize(("revoked_at", "valid"), [(None, 1), (REVOKED_AT, 0)])
def test_an_installation_that_had_a_token_is_closed(older: Database, revoked_at: int | None, valid: int) -> None:
    add_token(older, revoked_at)
    for _ in range(2):
        upgrade(older, "0007")
        found = AccessService(older, SystemClock()).state()
        assert found == AccessState(is_open=False, changed_at=1_700_000_000_000_000, valid_tokens=valid)
        downgrade(older, "0006")


def test_an_installation_that_never_had_a_token_stays_open(older: Database) -> None:
    upgrade(older, "0007")

    assert AccessService(older, SystemClock()).state() == AccessState(is_open=True, changed_at=None, valid_tokens=0)
