"""Making, checking and revoking tokens, and deciding who a caller is.

While no token exists an installation is *open*: loopback callers may do everything, so
that a laptop needs no set-up. The first token closes it. An open installation is what a
malicious web page in the user's browser could reach, so Host and Origin are checked.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Iterable
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from relab.access import repository
from relab.access.errors import (
    ForeignOriginError,
    InvalidTokenError,
    MissingScopeError,
    MissingTokenError,
    TokenNotFoundError,
)
from relab.access.models import Caller, NewToken, Scope, TokenInfo
from relab.core.clock import Clock
from relab.core.errors import InvalidInputError
from relab.core.ids import new_id
from relab.storage import Database

TOKEN_PREFIX = "relab"  # noqa: S105 the public part of a token
MAX_NAME_LENGTH = 200
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class Credentials(BaseModel):
    """What a request says about its caller. Nothing in it is trusted yet."""

    model_config = ConfigDict(frozen=True)

    bearer: SecretStr | None = None
    ingest_secret: SecretStr | None = None
    client_host: str | None = None
    host: str | None = None
    origin: str | None = None
    fetch_site: str | None = None


OPENNESS_STANDS_US = 1_000_000
_NEVER_ASKED = (-OPENNESS_STANDS_US, False)


class AccessService:
    """Tokens, and the decision about one request.

    Args:
        ingest_secret: when set, posting runs needs it (or a token with `ingest`).
        allowed_hosts: names beside loopback that an open installation answers to.
        trust_loopback_publish: a container whose port is published on 127.0.0.1 only sees
            its gateway as the client; this lets it count every client as loopback.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        ingest_secret: SecretStr | None = None,
        allowed_hosts: Iterable[str] = (),
        trust_loopback_publish: bool = False,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ingest_secret = ingest_secret
        self._hosts = LOOPBACK_NAMES | {name.lower() for name in allowed_hosts}
        self._trust_loopback_publish = trust_loopback_publish
        self._openness = _NEVER_ASKED

    def create_token(self, name: str, scopes: Iterable[Scope], *, expires_at: int | None = None) -> NewToken:
        """Make a token. Its text is in the answer and nowhere else.

        Raises:
            InvalidInputError: the name is empty, too long or not printable.
        """
        if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
            raise InvalidInputError(
                f"The name of a token has 1 to {MAX_NAME_LENGTH} printable characters.",
                problems=(("name", f"has {len(name)} characters, or one that cannot be printed"),),
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
            values = info.model_dump() | {"scopes": [str(scope) for scope in info.scopes]}
            repository.add(unit.session, values | {"secret_hash": _hash(secret)})
        self._openness = _NEVER_ASKED
        return NewToken(info=info, token=f"{TOKEN_PREFIX}_{token_id.replace('-', '')}_{secret}")

    def list_tokens(self) -> list[TokenInfo]:
        """Return all tokens, without their secrets."""
        with self._database.read() as session:
            rows = repository.list_tokens(session)
        return [_info(row) for row in rows]

    def revoke_token(self, token_id: str) -> None:
        """Make a token useless from now on.

        Raises:
            TokenNotFoundError: there is none of that id.
        """
        with self._database.write() as unit:
            if not repository.revoke(unit.session, token_id, self._clock.now_us()):
                raise TokenNotFoundError(
                    f"There is no token {token_id!r}.", remedy="`lab auth list` shows those there are."
                )
        self._openness = _NEVER_ASKED

    def is_open(self) -> bool:
        """Return whether no valid token exists, so that loopback callers may do everything.

        What this process finds stands for a second: every request without a token asks.
        """
        now = self._clock.now_us()
        asked_at, answer = self._openness
        if not 0 <= now - asked_at < OPENNESS_STANDS_US:
            with self._database.read() as session:
                answer = not repository.has_valid(session, now)
            self._openness = (now, answer)
        return answer

    def authorize(self, credentials: Credentials, scope: Scope) -> Caller:
        """Return who the caller is, if they may do what `scope` stands for.

        Raises:
            MissingTokenError, InvalidTokenError: the caller must authenticate (401).
            MissingScopeError, ForeignOriginError: the caller may not do this (403).
        """
        if credentials.bearer is not None:
            caller = self._token_caller(credentials.bearer.get_secret_value())
            if not caller.may(scope):
                raise MissingScopeError(
                    f"The token {caller.name!r} lacks the scope {scope.value!r}.",
                    remedy=f"Use a token made with `lab auth create-token --scope {scope.value}`.",
                )
            return caller
        if scope is Scope.INGEST and self._ingest_secret is not None:
            return self._ingest_caller(credentials)
        if not self.is_open():
            raise MissingTokenError(
                "This installation needs a token.",
                remedy="Send `Authorization: Bearer <token>`; `lab auth create-token` makes one.",
            )
        self._require_local(credentials)
        return Caller(name="loopback", scopes=frozenset({Scope.ADMIN}))

    def _ingest_caller(self, credentials: Credentials) -> Caller:
        given = credentials.ingest_secret
        if given is None:
            raise MissingTokenError("Posting runs needs the ingest secret.", remedy="Send it as `X-Ingest-Secret`.")
        expected = self._ingest_secret.get_secret_value() if self._ingest_secret else ""
        if not hmac.compare_digest(given.get_secret_value().encode(), expected.encode()):
            raise InvalidTokenError
        return Caller(name="ingest-secret", scopes=frozenset({Scope.INGEST}))

    def _token_caller(self, token: str) -> Caller:
        prefix, _, rest = token.partition("_")
        compact_id, _, secret = rest.partition("_")
        token_id = _expand(compact_id)
        with self._database.read() as session:
            row = repository.get(session, token_id)
        # An unknown id is compared as well, so that time tells nothing about ids.
        expected = row.secret_hash if row is not None else _hash("")
        matches = hmac.compare_digest(_hash(secret), expected)
        now = self._clock.now_us()
        if row is None or prefix != TOKEN_PREFIX or not matches:
            raise InvalidTokenError
        if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
            raise InvalidTokenError
        return Caller(name=row.name, scopes=frozenset(Scope(scope) for scope in row.scopes))

    def _require_local(self, credentials: Credentials) -> None:
        remedy = "Make a token with `lab auth create-token` and send it as `Authorization: Bearer <token>`."
        if not self._trust_loopback_publish and not _is_loopback(credentials.client_host):
            raise ForeignOriginError("Without tokens only this machine may use the API.", remedy=remedy)
        if _host_name(credentials.host) not in self._hosts:
            raise ForeignOriginError(
                "The Host header names another machine, and this installation has no tokens.",
                remedy=f"{remedy} Or list the name in RELAB_HTTP__ALLOWED_HOSTS.",
            )
        if credentials.origin is not None and _origin_name(credentials.origin) not in self._hosts:
            raise ForeignOriginError("The request comes from a page of another site.", remedy=remedy)
        # Also with an origin of this machine: a page of another port is not ours (`same-site`).
        if credentials.fetch_site in {"cross-site", "same-site"}:
            raise ForeignOriginError("The request comes from a page of another site.", remedy=remedy)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _expand(compact: str) -> str:
    """Put the dashes of a UUID back; anything else stays an id that does not exist."""
    cut = [compact[:8], compact[8:12], compact[12:16], compact[16:20], compact[20:32]]
    return "-".join(cut) if len(compact) == 32 and compact.isalnum() else ""


def _host_name(host: str | None) -> str | None:
    """Return the name in a Host header, lower-cased, without the port."""
    if not host:
        return None
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


def _origin_name(origin: str) -> str | None:
    """Return the host of an Origin header, or None for `null` and everything malformed."""
    try:
        return _host_name(urlsplit(origin).netloc)
    except ValueError:
        return None


def _is_loopback(client_host: str | None) -> bool:
    if client_host is None:
        # No address: a Unix socket, whose file permissions are the guard.
        return True
    try:
        return ipaddress.ip_address(client_host).is_loopback
    except ValueError:
        return False


def _info(row: object) -> TokenInfo:
    return TokenInfo.model_validate(row, from_attributes=True)
