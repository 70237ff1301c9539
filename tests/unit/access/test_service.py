"""Access: tokens and their scopes, and requests without a token from this machine and from others."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from relab.access.errors import (
    ForeignOriginError,
    InvalidTokenError,
    MissingScopeError,
    MissingTokenError,
    TokenNotFoundError,
    TokensInUseError,
)
from relab.access.models import AccessState, Scope, granted
from relab.access.service import AccessService, Credentials
from relab.core.errors import InvalidInputError
from relab.storage import Database
from support.clocks import MovableClock
from support.storage.migrated import migrate

START_US = MovableClock.us
HOUR_US = 3_600_000_000

Make = Callable[..., AccessService]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccessService]:
    """The access service of an installation without tokens; SQLite only, because the database makes no difference."""
    database = Database.open(f"sqlite:///{tmp_path_factory.mktemp('access') / 'test.db'}")
    migrate(database)
    yield AccessService(database, MovableClock())
    database.close()


def local(**fields: Any) -> Credentials:
    given = {"client_host": "127.0.0.1", "host": "localhost:8000", **fields}
    return Credentials(**given)


def bearer(token: str) -> Credentials:
    return Credentials(bearer=SecretStr(token), client_host="203.0.113.9", host="relab.example")


def test_without_tokens_this_machine_may_do_everything(make: Make) -> None:
    access = make()

    assert access.is_open()
    for scope in Scope:
        assert access.authorize(local(), scope).may(scope)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1"])
def test_every_loopback_address_is_this_machine(opened: AccessService, host: str) -> None:
    assert opened.authorize(local(client_host=host), Scope.READ)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8000", "[::1]", "[::1]:8000"])
def test_loopback_names_are_accepted_as_host(opened: AccessService, host: str) -> None:
    assert opened.authorize(local(host=host), Scope.READ)


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_host": "203.0.113.9"},
        {"client_host": "10.0.0.1"},
        {"client_host": "testclient"},
        {"client_host": ""},
        {"via": "it has the header Via"},
        {"host": "evil.example"},
        {"host": "evil.example:8000"},
        {"host": "localhost.evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "[::2]:8000"},
        {"host": "["},
        {"host": ""},
        {"host": None},
        {"origin": "http://evil.example"},
        {"origin": "http://localhost.evil.example"},
        {"origin": "http://evil.example#localhost"},
        {"origin": "http://localhost@evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://[::1"},
        {"origin": "http://½.example"},
        {"fetch_site": "cross-site"},
        {"fetch_site": "same-site"},
        {"origin": "http://localhost:3000", "fetch_site": "same-site"},
        {"origin": "http://localhost:3000", "fetch_site": "cross-site"},
    ],
)
def test_open_installation_refuses_foreign_requests(opened: AccessService, wrong: dict[str, Any]) -> None:
    with pytest.raises(ForeignOriginError):
        opened.authorize(local(**wrong), Scope.READ)


@pytest.mark.parametrize(
    "right",
    [
        {"origin": "http://localhost:8000", "fetch_site": "same-origin"},
        {"origin": "http://127.0.0.1:8000"},
        {"fetch_site": "none"},
        {"fetch_site": "same-origin"},
    ],
)
def test_requests_from_pages_of_this_machine_are_allowed(opened: AccessService, right: dict[str, Any]) -> None:
    assert opened.authorize(local(**right), Scope.OPERATE).name == "loopback"


def test_open_installation_accepts_allowed_hosts_and_published_ports(make: Make) -> None:
    access = make(allowed_hosts=["Lab.Internal"], trust_loopback_publish=True)

    assert access.authorize(local(host="lab.internal:80", client_host="172.17.0.1"), Scope.ADMIN)
    with pytest.raises(ForeignOriginError):
        access.authorize(local(host="evil.example", client_host="172.17.0.1"), Scope.ADMIN)
    with pytest.raises(ForeignOriginError, match="proxy"):
        access.authorize(local(host="lab.internal", client_host="172.17.0.1", via="it has the header Via"), Scope.READ)


def test_first_token_closes_the_installation_and_its_revocation_or_expiry_does_not_reopen_it(
    make: Make, clock: MovableClock
) -> None:
    access = make()
    revoked = access.create_token("ci", [Scope.READ])
    access.create_token("brief", [Scope.READ], expires_at=START_US + HOUR_US)

    with pytest.raises(MissingTokenError):
        access.authorize(local(), Scope.READ)
    access.revoke_token(revoked.info.token_id)
    clock.us += HOUR_US
    # The new service stands for another process, whose cache is empty.
    for each in (access, make()):
        assert not each.is_open()
        assert each.state() == AccessState(is_open=False, changed_at=START_US, valid_tokens=0)
        with pytest.raises(MissingTokenError):
            each.authorize(local(), Scope.READ)


def test_reopened_installation_admits_this_machine_until_the_next_token(make: Make, clock: MovableClock) -> None:
    access = make()
    for _ in range(2):
        access.revoke_token(access.create_token("ci", [Scope.READ], by="ada").info.token_id, by="bob")
        clock.us += HOUR_US
        access.reopen(by="cleo")

        assert make().state() == AccessState(is_open=True, changed_at=clock.us, valid_tokens=0)
        assert make().authorize(local(), Scope.ADMIN)
        with pytest.raises(ForeignOriginError):
            access.authorize(local(client_host="203.0.113.9"), Scope.READ)
        clock.us += HOUR_US

    access.create_token("again", [Scope.READ], by="dora")
    assert not make().is_open()
    assert [(event.kind.value, event.actor) for event in reversed(access.list_events())] == [
        *[("token_created", "ada"), ("token_revoked", "bob"), ("reopened", "cleo")] * 2,
        ("token_created", "dora"),
    ]


def test_an_installation_with_valid_tokens_cannot_be_reopened(make: Make) -> None:
    access = make()
    access.create_token("ci", [Scope.READ])

    with pytest.raises(TokensInUseError, match="1 token"):
        access.reopen(by="ada")
    assert not make().is_open()
    assert [event.kind.value for event in access.list_events()] == ["token_created"]


def test_an_installation_whose_state_is_lost_is_closed(make: Make, database: Database) -> None:
    with database.write() as unit:
        unit.session.execute(text("DELETE FROM access_state"))

    access = make()
    assert not access.is_open()
    with pytest.raises(MissingTokenError):
        access.authorize(local(), Scope.READ)
    made = access.create_token("ci", [Scope.READ])
    access.revoke_token(made.info.token_id)
    access.reopen(by="ada")
    assert make().is_open()


def test_revoking_a_token_twice_records_one_event(make: Make) -> None:
    access = make()
    made = access.create_token("ci", [Scope.READ])
    for _ in range(2):
        access.revoke_token(made.info.token_id)

    assert [event.kind.value for event in access.list_events()] == ["token_revoked", "token_created"]


def test_a_token_made_while_the_installation_is_being_reopened_closes_it(make: Make, database: Database) -> None:
    """Reopening and creating a token run at the same time; in either order, the installation ends up closed."""
    for _ in range(10):
        start = threading.Barrier(2)
        access, other = make(), make()
        for token in access.list_tokens():
            access.revoke_token(token.token_id)

        def reopen(access: AccessService = access, start: threading.Barrier = start) -> None:
            start.wait(10)
            with contextlib.suppress(TokensInUseError):
                access.reopen(by="ada")

        thread = threading.Thread(target=reopen)
        thread.start()
        start.wait(10)
        other.create_token("ci", [Scope.READ])
        thread.join()

        assert not make().is_open()


def test_token_is_authorized_only_for_included_scopes(make: Make) -> None:
    access = make()
    includes = {
        Scope.INGEST: {Scope.INGEST},
        Scope.READ: {Scope.READ},
        Scope.OPERATE: {Scope.OPERATE, Scope.READ},
        Scope.ADMIN: set(Scope),
    }
    for held, included in includes.items():
        token = access.create_token(held.value, [held]).token
        for wanted in Scope:
            if wanted in included:
                assert access.authorize(bearer(token), wanted).name == held.value
            else:
                with pytest.raises(MissingScopeError, match=wanted.value):
                    access.authorize(bearer(token), wanted)


def test_several_scopes_grant_their_union() -> None:
    assert granted(frozenset({Scope.INGEST, Scope.READ})) == {Scope.INGEST, Scope.READ}
    assert granted(frozenset()) == frozenset()


def test_a_revoked_token_is_invalid_and_revoking_twice_keeps_the_first_time(make: Make, clock: MovableClock) -> None:
    access = make()
    made = access.create_token("old", [Scope.ADMIN])
    access.revoke_token(made.info.token_id)
    clock.us += HOUR_US
    access.revoke_token(made.info.token_id)

    assert access.list_tokens()[0].revoked_at == START_US
    with pytest.raises(InvalidTokenError):
        access.authorize(bearer(made.token), Scope.READ)


def test_a_token_expires_at_its_time(make: Make, clock: MovableClock) -> None:
    access = make()
    token = access.create_token("brief", [Scope.READ], expires_at=START_US + HOUR_US).token
    clock.us += HOUR_US - 1
    assert access.authorize(bearer(token), Scope.READ)
    clock.us += 1

    assert not access.is_open()
    with pytest.raises(InvalidTokenError):
        access.authorize(bearer(token), Scope.READ)


def test_changed_clock_neither_revives_a_revoked_token_nor_reopens_the_installation(
    make: Make, clock: MovableClock
) -> None:
    access = make()
    made = access.create_token("brief", [Scope.READ])
    access.revoke_token(made.info.token_id)

    for moved in (-24 * HOUR_US, 365 * 24 * HOUR_US):
        clock.us += moved
        with pytest.raises(InvalidTokenError):
            access.authorize(bearer(made.token), Scope.READ)
        with pytest.raises(MissingTokenError):
            access.authorize(local(), Scope.READ)


def test_forged_tokens_are_invalid(make: Make) -> None:
    access = make()
    real = access.create_token("real", [Scope.ADMIN])
    other = access.create_token("other", [Scope.ADMIN])
    prefix, compact_id, secret = real.token.split("_", 2)
    other_id = other.token.split("_", 2)[1]
    forged = [
        "",
        "relab",
        "relab_",
        "relab__",
        compact_id,
        f"{prefix}_{compact_id}",
        f"{prefix}_{compact_id}_",
        f"{prefix}_{compact_id}_{secret}x",
        f"{prefix}_{compact_id}_{secret[:-1]}",
        f"{prefix}_{other_id}_{secret}",
        f"{prefix}_{real.info.token_id}_{secret}",
        f"other_{compact_id}_{secret}",
        f"{prefix}_{'0' * 32}_",
        f"{prefix}_{'0' * 32}_{secret}",
        f"{prefix}_{'ü' * 32}_{secret}",
        f"{prefix}_{compact_id}\x00_{secret}",
        f"{prefix}_{compact_id[:-1]}\x00_{secret}",
        f"{prefix}_{compact_id}0_{secret}",
        "relab_%s_%s",
        "x" * 100_000,
    ]

    for token in forged:
        with pytest.raises(InvalidTokenError) as caught:
            access.authorize(bearer(token), Scope.READ)
        assert not token or len(token) < 10 or token not in str(caught.value)
    assert access.authorize(bearer(real.token), Scope.READ)


def test_wrong_token_does_not_fall_back_to_loopback_rights(make: Make) -> None:
    with pytest.raises(InvalidTokenError):
        make().authorize(local(bearer=SecretStr("relab_x_y")), Scope.READ)


def test_the_database_holds_no_secret(make: Make, database: Database) -> None:
    secret = make().create_token("ci", [Scope.READ]).token.split("_", 2)[2]

    with database.read() as session:
        rows = [str(tuple(row)) for row in session.execute(text("SELECT * FROM access_tokens"))]
    assert len(rows) == 1
    assert secret not in rows[0]


def test_secrets_do_not_show_when_values_are_printed(make: Make) -> None:
    credentials = Credentials(bearer=SecretStr("relab_a_hush"), ingest_secret=SecretStr("hush"))

    assert "hush" not in repr(credentials)
    assert "hush" not in repr(make(ingest_secret=SecretStr("hush")).__dict__)


def test_ingest_secret_authorizes_ingest_only(make: Make) -> None:
    access = make(ingest_secret=SecretStr("wörd"))
    remote = {"client_host": "203.0.113.9", "host": "relab.example"}

    assert access.authorize(Credentials(ingest_secret=SecretStr("wörd"), **remote), Scope.INGEST).scopes == {
        Scope.INGEST
    }
    with pytest.raises(ForeignOriginError):
        access.authorize(Credentials(ingest_secret=SecretStr("wörd"), **remote), Scope.READ)
    for wrong in ("", "w", "wörde", "WÖRD"):
        with pytest.raises(InvalidTokenError):
            access.authorize(local(ingest_secret=SecretStr(wrong)), Scope.INGEST)
    with pytest.raises(MissingTokenError, match="X-Ingest-Secret"):
        access.authorize(local(), Scope.INGEST)


def test_token_with_ingest_scope_replaces_the_ingest_secret(make: Make) -> None:
    access = make(ingest_secret=SecretStr("word"))
    token = access.create_token("collector", [Scope.INGEST]).token

    assert access.authorize(bearer(token), Scope.INGEST).name == "collector"


@pytest.mark.parametrize("name", ["", "x" * 201, "a\x1b[2Jb", "a\nb", "a\x00b"])
def test_names_that_cannot_be_stored_or_shown_are_refused(opened: AccessService, name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        opened.create_token(name, [Scope.READ])
    assert caught.value.problems[0][0] == "name"
    assert opened.list_tokens() == []


def test_lists_show_tokens_without_their_secrets(make: Make) -> None:
    access = make()
    made = [access.create_token(name, [Scope.READ, Scope.INGEST, Scope.READ]) for name in ("x" * 200, "b")]

    listed = access.list_tokens()

    assert listed == [token.info for token in made]
    assert listed[0].scopes == [Scope.INGEST, Scope.READ]
    assert all(token.token.split("_", 2)[2] not in repr(listed) for token in made)


def test_revoking_an_unknown_token_is_an_error(make: Make) -> None:
    with pytest.raises(TokenNotFoundError, match="nope"):
        make().revoke_token("nope")
