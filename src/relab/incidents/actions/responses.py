"""Translate an action server's refusals into errors. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relab.core.json import JsonValue
from relab.incidents.actions.errors import (
    ActionServerBusyError,
    ActionServerError,
    ActionServerStoppedError,
    DeniedError,
    OutcomeUnknownError,
    RefusedError,
    StateChangedError,
    UnreachableError,
)

IN_PROGRESS: Final = "in_progress"
"""The action server's error code if this action is in progress, or another one on the same part of the service."""
_BY_STATUS: Final[dict[int, type[ActionServerError]]] = {401: DeniedError, 403: DeniedError, 412: StateChangedError}
_MAX_MESSAGE_LENGTH: Final = 300
_CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,60}")
_SECONDS: Final = re.compile(r"\d{1,9}")
_USUAL_WAIT_S: Final = 5.0
_MAX_WAIT_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """An answer of the action server, which executes repairs.

    Attributes:
        status: the HTTP status.
        document: the JSON value in the body; None if an error has no JSON.
        retry_after: the `Retry-After` header; None if the response has none.
        ahead_us: how far the server's clock is ahead of the local clock, in microseconds.
    """

    status: int
    document: JsonValue
    retry_after: str | None = None
    ahead_us: int = 0


def refusal(answer: ServerResponse) -> ActionServerError:
    """Return the exception for an unsuccessful answer; its message quotes the server's text, cut if long."""
    code, said = _error_of(answer)
    about = f"The action server answered {answer.status}{f' ({code})' if code else ''}{f': {said}' if said else '.'}"
    if answer.status == 429 or code == IN_PROGRESS:
        return ActionServerBusyError(about, retry_after_s=_retry_after_s(answer), server_code=code)
    kind = ActionServerStoppedError if code == "stopped" else _BY_STATUS.get(answer.status)
    if kind is None and answer.status == 503 and code is not None:
        # A problem document: the server itself has checked, and reports that a part of the service does not answer.
        kind = UnreachableError
    if kind is None:
        kind = RefusedError if 400 <= answer.status < 500 else OutcomeUnknownError
    remedy = "Give the responder a token with this permission." if kind is DeniedError else None
    return kind(about, remedy=remedy, server_code=code)


def _error_of(answer: ServerResponse) -> tuple[str | None, str]:
    document = answer.document if isinstance(answer.document, Mapping) else {}
    code, detail = document.get("code"), document.get("detail")
    said = detail if isinstance(detail, str) else ""
    printable = "".join(char if char.isprintable() else " " for char in said[:_MAX_MESSAGE_LENGTH])
    return (code if isinstance(code, str) and _CODE.fullmatch(code) else None), printable


def _retry_after_s(answer: ServerResponse) -> float:
    header = answer.retry_after or ""
    # HTTP allows a date here too; it is ignored, because the server's clock may differ.
    return min(float(header), _MAX_WAIT_S) if _SECONDS.fullmatch(header) else _USUAL_WAIT_S
