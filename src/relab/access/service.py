"""Create, check and revoke tokens, and authorize requests.

Until the first token exists, an installation is *open*: callers on this machine may do everything, so that a laptop
needs no set-up. The first token closes it, and only `lab auth reopen` opens it again. A malicious web page in the
user's browser could send requests to an open installation, so the headers Host and Origin are checked.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from relab.access import repository
from relab.access.errors import (
    ForeignOriginError,
    InvalidIngestSecretError,
    InvalidTokenError,
    MissingScopeError,
    MissingTokenError,
    TokenNotFoundError,
    TokensInUseError,
)
from relab.access.forwarding import Network, is_loopback, source_of
from relab.access.models import (
    AccessEvent,
    AccessEventKind,
    AccessState,
    Caller,
    NewToken,
    Scope,
    Source,
    TokenInfo,
)
from relab.core.clock import Clock
from relab.core.errors import InvalidInputError
from relab.core.ids import new_id
from relab.storage import Database, UnitOfWork

TOKEN_PREFIX = "relab"  # noqa: S105 the public part of a token
MAX_NAME_LENGTH = 200
MAX_ACTOR_LENGTH = 200
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class Credentials(BaseModel):
    """The data in a request that identify its caller. They are not verified yet.

    Attributes:
        bearer: the token of the `Authorization` header.
        ingest_secret: the header `X-Ingest-Secret`.
        client_host: the address of the client; None for a Unix socket, or if the headers of a trusted proxy do not
            identify the client.
        host, origin, fetch_site: the headers `Host`, `Origin` and `Sec-Fetch-Site`.
    """

    model_config = ConfigDict(frozen=True)

    bearer: SecretStr | None = None
    ingest_secret: SecretStr | None = None
    client_host: str | None = None
    via: str | None = None
    """The sign that the request came through a proxy (`Source.via`); None if it came directly."""
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None


OPENNESS_STANDS_US = 1_000_000
_NEVER_ASKED = (-OPENNESS_STANDS_US, False)


class AccessService:
    """Manages tokens and authorizes requests.

    Args:
        database: stores tokens, the access state and the audit log.
        clock: the source of the current time.
        ingest_secret: if set, a route with the scope `ingest` needs this secret, or a token with that scope.
        allowed_hosts: further host names that are allowed in the headers `Host` and `Origin`. The loopback names are
            always allowed. Used only for requests without a token.
        trust_loopback_publish: whether clients at any address count as this machine. Only for a server in a container
            whose port is published on 127.0.0.1: it sees the address of the container's gateway, not the client's.
        trusted_proxies: networks of proxies in front of this server. Their headers about the client are trusted.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        ingest_secret: SecretStr | None = None,
        allowed_hosts: Iterable[str] = (),
        trust_loopback_publish: bool = False,
        trusted_proxies: Sequence[Network] = (),
    ) -> None:
        self._database = database
        self._clock = clock
        self._ingest_secret = ingest_secret
        self._hosts = LOOPBACK_NAMES | {name.lower() for name in allowed_hosts}
        self._trust_loopback_publish = trust_loopback_publish
        self._trusted_proxies = tuple(trusted_proxies)
        self._openness = _NEVER_ASKED

    def create_token(
        self, name: str, scopes: Iterable[Scope], *, expires_at: int | None = None, by: str = "unknown"
    ) -> NewToken:
        """Create a token, and return it with its secret text, which is not stored.

        From now on, requests need a token.

        Args:
            name: describes the owner of the token.
            scopes: the scopes of the token.
            expires_at: when the token expires, in microseconds since 1970; None: never.
            by: the person who creates the token, for the audit log.

        Raises:
            InvalidInputError: the name is empty, too long or not printable.
        """
        if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
            raise InvalidInputError(
                f"The name of a token has 1 to {MAX_NAME_LENGTH} printable characters.",
                problems=(("name", f"has {len(name)} characters, or contains one that is not printable"),),
            )
        secret = secrets.token_urlsafe(32)
        token_id = new_id()
        info = TokenInfo(
            token_id=token_id,
            name=name,
            scopes=sorted(set(scopes)),
            created_at=self._clock.now_us(),
            expires_at=expires_at,
            revoked_at=None,
        )
        with self._database.write() as unit:
            # Update the state first: its lock makes a concurrent `reopen` wait until this token is visible.
            repository.set_closed(unit.session, info.created_at, is_closed=True)
            values = info.model_dump() | {"scopes": [str(scope) for scope in info.scopes]}
            repository.add(unit.session, values | {"secret_hash": _hash(secret)})
            self._record(unit, AccessEventKind.TOKEN_CREATED, by, token_id)
        self._openness = _NEVER_ASKED
        return NewToken(info=info, token=f"{TOKEN_PREFIX}_{token_id.replace('-', '')}_{secret}")

    def list_tokens(self) -> list[TokenInfo]:
        """Return all tokens, including expired and revoked tokens, without their secrets, oldest first."""
        with self._database.read() as session:
            rows = repository.list_tokens(session)
        return [_info(row) for row in rows]

    def revoke_token(self, token_id: str, *, by: str = "unknown") -> None:
        """Revoke a token; a token that is already revoked is not changed.

        Requests still need a token, even if no valid token is left.

        Args:
            token_id: the id of the token.
            by: the person who revokes it, for the audit log.

        Raises:
            TokenNotFoundError: no token has this id.
        """
        with self._database.write() as unit:
            if repository.get(unit.session, token_id) is None:
                raise TokenNotFoundError(f"There is no token {token_id!r}.", remedy="`lab auth list` shows the tokens.")
            if repository.revoke(unit.session, token_id, self._clock.now_us()):
                self._record(unit, AccessEventKind.TOKEN_REVOKED, by, token_id)

    def reopen(self, *, by: str) -> None:
        """Let callers on this machine send requests without a token again, until the next token is created.

        Args:
            by: the person who reopens the installation, for the audit log.

        Raises:
            TokensInUseError: at least one token is still valid.
        """
        now = self._clock.now_us()
        with self._database.write() as unit:
            repository.set_closed(unit.session, now, is_closed=False)
            valid = repository.count_valid(unit.session, now)
            if valid:
                raise TokensInUseError(
                    f"The installation cannot be reopened: {valid} token(s) can still be used.",
                    remedy="Revoke them first: `lab auth list` shows their ids, `lab auth revoke ID` revokes one.",
                )
            self._record(unit, AccessEventKind.REOPENED, by)
        self._openness = _NEVER_ASKED

    def state(self) -> AccessState:
        """Return whether the installation needs a token, since when, and the number of valid tokens."""
        with self._database.read() as session:
            row = repository.state(session)
            valid = repository.count_valid(session, self._clock.now_us())
        is_open = row is not None and not row.is_closed
        return AccessState(is_open=is_open, changed_at=row.changed_at if row is not None else None, valid_tokens=valid)

    def list_events(self, *, limit: int = 100) -> list[AccessEvent]:
        """Return the newest `limit` events of the audit log, newest first."""
        with self._database.read() as session:
            rows = repository.list_events(session, limit)
        return [AccessEvent.model_validate(row, from_attributes=True) for row in rows]

    def is_open(self) -> bool:
        """Return whether callers on this machine may do everything without a token.

        The result is cached for one second. It is False if the row with the access state is missing in the database.
        """
        now = self._clock.now_us()
        asked_at, answer = self._openness
        if not 0 <= now - asked_at < OPENNESS_STANDS_US:
            with self._database.read() as session:
                row = repository.state(session)
            answer = row is not None and not row.is_closed
            self._openness = (now, answer)
        return answer

    def source_of(self, peer: str | None, headers: Iterable[tuple[str, str]]) -> Source:
        """Return where a request comes from: the address of the client, and whether a proxy forwarded the request.

        Args:
            peer: the address of the other end of the connection; None for a Unix socket.
            headers: `(name, value)` pairs in the order of the request.
        """
        return source_of(peer, headers, self._trusted_proxies)

    @property
    def has_ingest_secret(self) -> bool:
        """Whether an ingest secret is set.

        If true, a route with the scope `ingest` needs this secret, or a token with that scope.
        """
        return self._ingest_secret is not None

    def authorize(self, credentials: Credentials, scope: Scope) -> Caller:
        """Return the caller of a request; raise an error if the caller may not use a route that requires `scope`.

        If the request has a token, only the token decides. Without a token, the scope `ingest` requires the ingest
        secret, if one is set. Every other request without a token must come from this machine, and the installation
        must be open. It is open until its first token is created, and again after `reopen`.

        Args:
            credentials: the data in the request that identify its caller.
            scope: the scope that the route requires.

        Raises:
            MissingTokenError, InvalidTokenError: the request has no credential, or one that is not valid (401).
            MissingScopeError: the token lacks the scope (403).
            ForeignOriginError: a request without a token is not from this machine (403).
        """
        if credentials.bearer is not None:
            caller = self._token_caller(credentials.bearer.get_secret_value())
            if not caller.may(scope):
                raise MissingScopeError(
                    f"The token {caller.name!r} lacks the scope {scope.value!r}.",
                    remedy=f"Use a token created with `lab auth create-token --scope {scope.value}`.",
                )
            return caller
        if scope is Scope.INGEST and self._ingest_secret is not None:
            return self._ingest_caller(credentials)
        if not self.is_open():
            raise MissingTokenError(
                "This installation needs a token.",
                remedy="Send `Authorization: Bearer <token>`; `lab auth create-token` creates one.",
            )
        self._require_local(credentials)
        return Caller(name="loopback", scopes=frozenset({Scope.ADMIN}))

    def _ingest_caller(self, credentials: Credentials) -> Caller:
        given = credentials.ingest_secret
        if given is None:
            raise MissingTokenError("Posting runs needs the ingest secret.", remedy="Send it as `X-Ingest-Secret`.")
        expected = self._ingest_secret.get_secret_value() if self._ingest_secret else ""
        if not hmac.compare_digest(given.get_secret_value().encode(), expected.encode()):
            raise InvalidIngestSecretError
        return Caller(name="ingest-secret", scopes=frozenset({Scope.INGEST}))

    def _token_caller(self, token: str) -> Caller:
        prefix, _, rest = token.partition("_")
        compact_id, _, secret = rest.partition("_")
        token_id = _expand(compact_id)
        with self._database.read() as session:
            row = repository.get(session, token_id)
        # The comparison also runs for an unknown id, so that the response time does not reveal which ids exist.
        expected = row.secret_hash if row is not None else _hash("")
        matches = hmac.compare_digest(_hash(secret), expected)
        now = self._clock.now_us()
        if row is None or prefix != TOKEN_PREFIX or not matches:
            raise InvalidTokenError
        if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            raise InvalidTokenError
        return Caller(name=row.name, scopes=frozenset(Scope(scope) for scope in row.scopes))

    def _record(self, unit: UnitOfWork, kind: AccessEventKind, by: str, token_id: str | None = None) -> None:
        """Append an event to the audit log in the transaction `unit`, which also stores the change.

        Args:
            unit: the transaction.
            kind: what was changed.
            by: the person or program that made the change.
            token_id: the token that was created or revoked; None if the change is about no token.
        """
        event = {"event_id": new_id(), "at": self._clock.now_us(), "kind": kind.value}
        repository.add_event(unit.session, event | {"token_id": token_id, "actor": by[:MAX_ACTOR_LENGTH]})

    def _require_local(self, credentials: Credentials) -> None:
        remedy = "Create a token with `lab auth create-token` and send it as `Authorization: Bearer <token>`."
        if credentials.via is not None:
            raise ForeignOriginError(
                f"The request came through a proxy ({credentials.via}), so it does not count as from this machine. "
                "Without tokens, only this machine may use the API.",
                remedy=remedy,
            )
        if not self._trust_loopback_publish and not is_loopback(credentials.client_host):
            raise ForeignOriginError("Without tokens, only this machine may use the API.", remedy=remedy)
        if _host_name(credentials.host) not in self._hosts:
            raise ForeignOriginError(
                "The Host header names another machine. Without tokens, only this machine may use the API.",
                remedy=f"{remedy} Or list the name in RELAB_HTTP__ALLOWED_HOSTS.",
            )
        if credentials.origin is not None and _origin_name(credentials.origin) not in self._hosts:
            raise ForeignOriginError("The request comes from a web page of another site.", remedy=remedy)
        # Check this even if the origin is on this machine: a page on another port (`same-site`) is not a page of relab.
        if credentials.fetch_site in {"cross-site", "same-site"}:
            raise ForeignOriginError("The request comes from a web page of another site.", remedy=remedy)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _expand(compact: str) -> str:
    """Insert the dashes into a UUID without dashes.

    Return "" if the text does not consist of exactly 32 letters and digits; no token has the id "".
    """
    cut = [compact[:8], compact[8:12], compact[12:16], compact[16:20], compact[20:32]]
    return "-".join(cut) if len(compact) == 32 and compact.isalnum() else ""


def _host_name(host: str | None) -> str | None:
    """Return the host name in a Host header in lower case, without the port; None if the header is missing or empty."""
    if not host:
        return None
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def _origin_name(origin: str) -> str | None:
    """Return the host name in an Origin header in lower case; None if the header is `null` or malformed."""
    try:
        return _host_name(urlsplit(origin).netloc)
    except ValueError:
        return None


def _info(row: object) -> TokenInfo:
    return TokenInfo.model_validate(row, from_attributes=True)
