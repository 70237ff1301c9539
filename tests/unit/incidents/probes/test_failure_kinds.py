"""Kinds of failures, from the error messages of clients in several languages."""

from __future__ import annotations

import pytest

from relab.incidents.probes import failure_kinds as kinds


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("connect ECONNREFUSED 127.0.0.1:6379", kinds.REFUSED),
        ("dial tcp 127.0.0.1:6379: connect: connection refused", kinds.REFUSED),
        ("getaddrinfo ENOTFOUND redis", kinds.REFUSED),
        ("connect EHOSTUNREACH 10.0.0.5:6379", kinds.REFUSED),
        ("Npgsql.NpgsqlException: Failed to connect to 127.0.0.1:5432", kinds.REFUSED),
        ("Failed to connect to 127.0.0.1:5432: the operation has timed out", kinds.TIMEOUT),
        ("dial tcp 127.0.0.1:6379: i/o timeout", kinds.TIMEOUT),
        ("context deadline exceeded", kinds.TIMEOUT),
        ("connect ETIMEDOUT 10.0.0.5:5432", kinds.TIMEOUT),
        ("Connection terminated unexpectedly", kinds.CUT),
        ("write EPIPE", kinds.CUT),
        ("EOF", kinds.CUT),
        ("failed to read: EOF", kinds.CUT),
        ("typeof is no failure", kinds.OTHER),
        ("HikariPool-1 - Connection is not available, request timed out after 30000ms", kinds.POOL),
        ("could not obtain a connection from the pool within 5.000 seconds", kinds.POOL),
        ("pool timed out while waiting for an open connection", kinds.POOL),
        ("Timed out fetching a new connection from the connection pool", kinds.POOL),
        ("closing the connection pool: connection refused", kinds.REFUSED),
        ("sorry, too many clients already", kinds.FULL),
        ("WRONGPASS invalid username-password pair or user is disabled.", kinds.CREDENTIAL),
    ],
)
def test_kind_of_a_client_error(message: str, kind: str) -> None:
    assert kinds.kind_of(message) == kind


def test_sqlstate_has_precedence_over_the_message() -> None:
    assert kinds.kind_of("connection refused", "28P01") == kinds.CREDENTIAL
