"""Authenticate callers of the action server by tokens. A file stores the digest and the scopes of each token."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from relab.core.atomic_files import replace_file
from relab.core.errors import ConflictError, ForbiddenError, InvalidInputError, UnauthenticatedError
from relab.core.file_locks import file_lock
from relab.testbed.actions.models import ActionClass


class ActionScope(StrEnum):
    """The scopes of tokens. `read` allows requests that change nothing; `admin` allows everything.

    `act` allows all actions that change anything. There is also a scope for each class of these actions, for example
    `act:restart` for the class `restart`.
    """

    READ = "read"
    ACT = "act"
    ADMIN = "admin"


class WrongScopeError(InvalidInputError):
    """A requested scope does not exist, or no scope was requested for a token."""

    code = "wrong_scope"


class WrongTokenNameError(InvalidInputError):
    """The name of a token is empty, too long, or contains characters that cannot be printed."""

    code = "wrong_token_name"


class TokenExistsError(ConflictError):
    """A token with this name exists; a new one would make it invalid."""

    code = "token_exists"


MAX_NAME_LENGTH: Final = 100
SCOPES: Final = (*ActionScope, *(f"act:{kind.value}" for kind in ActionClass if kind is not ActionClass.READ))


class UnknownActionTokenError(UnauthenticatedError):
    """The request has no token, or an unknown token."""

    code = "invalid_token"


class MissingActionScopeError(ForbiddenError):
    """The token lacks a scope that the request needs."""

    code = "missing_scope"


@dataclass(frozen=True, slots=True)
class ActionCaller:
    """The authenticated caller: the name of its token, and the token's scopes."""

    name: str
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Check that the token has this scope, or `admin`.

        Raises:
            MissingActionScopeError: the token has neither of the two scopes.
        """
        if scope not in self.scopes and ActionScope.ADMIN not in self.scopes:
            raise MissingActionScopeError(f"The token {self.name!r} lacks the scope '{scope}'.")

    def require_any_act(self) -> None:
        """Check that the token allows at least one class of changing actions.

        Raises:
            MissingActionScopeError: the token allows no such actions.
        """
        if not any(scope == ActionScope.ACT or scope.startswith("act:") for scope in self.scopes):
            self.require(ActionScope.ACT)

    def require_class(self, action_class: ActionClass) -> None:
        """Check that the token allows actions of this class.

        The class `read` requires the scope `read`. Any other class requires `act` or `act:CLASS`. The scope
        `admin` allows all classes.

        Raises:
            MissingActionScopeError: the token does not allow actions of this class.
        """
        if action_class is ActionClass.READ:
            self.require(ActionScope.READ)
        elif ActionScope.ACT not in self.scopes:
            self.require(f"act:{action_class.value}")


ANYONE: Final = ActionCaller("anyone", frozenset((ActionScope.READ, ActionScope.ACT)))
"""The caller of a request without a token, if the server is open."""


class Tokens:
    """Creates the tokens of one testbed's action server (which executes repairs), and finds the caller of a request.

    A file stores the digest, the name and the scopes of each token.

    Args:
        path: the path of the file; it is created with the first token.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self, name: str, scopes: Sequence[str], *, replace: bool = False) -> str:
        """Create a token for the action server and return it; it cannot be read again.

        Args:
            name: the name of the token, shown as the caller in records of actions.
            scopes: the scopes of the token, each of them in `SCOPES`.
            replace: whether an older token with this name becomes invalid.

        Raises:
            TokenExistsError: a token with this name exists, and `replace` is False.
            WrongScopeError: a scope is not in `SCOPES`, or none is given.
            WrongTokenNameError: the name is empty, too long or not printable.
        """
        if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable():
            raise WrongTokenNameError(
                f"The name of a token has 1 to {MAX_NAME_LENGTH} printable characters; this name has {len(name)} "
                "characters, or a character that cannot be printed."
            )
        wrong = [scope for scope in scopes if scope not in SCOPES]
        if wrong or not scopes:
            said = f"{wrong[0][:60]!r} is not a scope" if wrong else "A token needs a scope"
            raise WrongScopeError(f"{said}.", remedy=f"Give one or more of: {', '.join(SCOPES)}.")
        token = f"actions_{secrets.token_urlsafe(32)}"
        with self._locked():
            known = self._read()
            if name in known and not replace:
                raise TokenExistsError(
                    f"A token with the name {name!r} exists; it is printed only when it is created.",
                    remedy="Choose another --label, or make the older token invalid with --replace.",
                )
            known[name] = {"digest": _digest(token), "scopes": list(scopes)}
            replace_file(self._path, json.dumps(known, indent=2).encode(), mode=0o600)
        return token

    def caller(self, authorization: str | None) -> ActionCaller:
        """Return the caller whose token is in a request's `Authorization` header.

        Args:
            authorization: the value of the header; None if the request has none.

        Raises:
            UnknownActionTokenError: the header has no token, or the token is unknown.
        """
        kind, _, token = (authorization or "").partition(" ")
        # Without a token, compare the digest of the empty string, which no token has.
        digest = _digest(token.strip() if kind.lower() == "bearer" else "")
        found = None
        # Compare with all tokens, so that the time does not depend on which one matches.
        for name, known in self._read().items():
            if hmac.compare_digest(known["digest"], digest):
                found = ActionCaller(name, frozenset(known["scopes"]))
        if found is None:
            raise UnknownActionTokenError(
                "An action needs a token that is known here.",
                remedy="Make one with `lab testbed token`, and send it as: Authorization: Bearer TOKEN. "
                "On a machine of your own `lab testbed up --open-actions` makes actions work without one.",
            )
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock on the file of tokens while the block runs, so that no other process changes the file."""
        with file_lock(self._path.with_name(f"{self._path.name}.lock")):
            yield

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            found: dict[str, dict[str, Any]] = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        return found


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
