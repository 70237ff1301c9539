"""HTTP client of an action server. It validates each answer. Each error states what the responder does next (`Reaction`)."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

import httpx

from relab.core.json import JsonValue
from relab.incidents.actions.catalogue import Catalogue, ParameterValue, read_catalogue
from relab.incidents.actions.errors import (
    ActionServerBusyError,
    ActionServerError,
    OutcomeUnknownError,
    RefusedError,
    StateChangedError,
    UnreachableError,
    UnreadableError,
)
from relab.incidents.actions.records import ActionStatus, ServerRecord, read_record, read_records
from relab.incidents.actions.responses import IN_PROGRESS, ServerResponse, refusal
from relab.incidents.actions.transport import Transport

_MAX_RECORDS: Final = 200
_DIGEST: Final = re.compile(r"[!-~]{1,100}")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Time limits and retries for requests to the action server.

    Attributes:
        read_timeout_s: the time limit for a request that changes nothing.
        action_timeout_s: the time limit for an action.
        max_attempts: the maximum number of requests for one action. A request is repeated if its outcome is unknown, or
            if the action or another one is in progress.
        retry_pause_s: the pause between two requests of the same action.
        max_retry_after_s: the longest pause between two requests, even if the header `Retry-After` asks for more.
    """

    read_timeout_s: float = 5.0
    action_timeout_s: float = 90.0
    max_attempts: int = 4
    retry_pause_s: float = 2.0
    max_retry_after_s: float = 30.0


@dataclass(frozen=True, slots=True)
class DryRun:
    """The result of a dry run that succeeded: the server would execute the action.

    Attributes:
        state: the part of the service's state that the action would change.
        state_digest: the server's digest of `state`; None if the server sends no valid digest.
    """

    state: Mapping[str, Any]
    state_digest: str | None


@dataclass(frozen=True, slots=True)
class RecentRecords:
    """The action server's records from the newest one back to the point that the caller asked for.

    Attributes:
        records: the records, newest first.
        is_whole: False if records may be missing: the server's list ends before that point, or has invalid rows.
    """

    records: tuple[ServerRecord, ...]
    is_whole: bool


class ActionsClient:
    """Sends requests to one action server, which executes repairs.

    Args:
        url: the address of the server.
        token: the bearer token; if it is None, each request raises `DeniedError`.
        patience: time limits and retries.
        pause: sleeps for the given seconds; replaced in tests.
        transport: the transport of the HTTP client; None for the network.

    Raises:
        ConfigurationError: the address or the token is not valid.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        patience: RequestLimits | None = None,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = patience or RequestLimits()
        self._pause = pause
        self._transport = Transport(url, token, connect_s=self._patience.read_timeout_s, transport=transport)

    async def catalogue(self) -> Catalogue:
        """Return the action server's catalogue of actions, without entries that are not valid.

        Raises:
            ActionServerError: the request failed.
        """
        return read_catalogue(await self._read("GET", "/actions"))

    async def is_stopped(self) -> bool:
        """Return whether the action server's kill switch is on.

        Raises:
            ActionServerError: the request failed, or the answer does not contain the state of the switch.
        """
        document = await self._read("GET", "/kill-switch")
        stopped = document.get("stopped") if isinstance(document, Mapping) else None
        if not isinstance(stopped, bool):
            raise UnreadableError("The action server does not report whether its kill switch is on.")
        return stopped

    async def records_since(self, at_us: int) -> RecentRecords:
        """Return the action server's records of actions that any client requested at `at_us` or later.

        Args:
            at_us: microseconds since 1970, by the local clock.

        Raises:
            ActionServerError: the request failed.
        """
        records, unreadable = await self._records()
        return _recent([record for record in records if record.requested_at_us >= at_us], records, unreadable)

    async def records_after(self, seen: Collection[str]) -> RecentRecords:
        """Return the records of all clients that are newer than the newest record in `seen`.

        Args:
            seen: ids of known records. If the server's list contains none of them, the whole list is returned.

        Raises:
            ActionServerError: the request failed.
        """
        records, unreadable = await self._records()
        found = list(itertools.takewhile(lambda record: record.record_id not in seen, records))
        return _recent(found, records, unreadable)

    async def dry_run(self, action: str, parameters: Mapping[str, ParameterValue]) -> DryRun:
        """Ask the action server whether it would execute an action now; return the state that the action would change.

        Raises:
            ActionServerError: the server would refuse the action, or the request failed.
        """
        document = await self._read("POST", f"{_path(action)}?dry_run=true", dict(parameters))
        state = document.get("before") if isinstance(document, Mapping) else None
        if not isinstance(document, Mapping) or document.get("dry_run") is not True or not isinstance(state, Mapping):
            raise UnreadableError(f"The answer to a dry run of {action} is not valid.")
        name = state.get("state_digest")
        return DryRun(state, name if isinstance(name, str) and _DIGEST.fullmatch(name) else None)

    async def execute(
        self,
        action: str,
        parameters: Mapping[str, ParameterValue],
        *,
        key: str,
        state_digest: str | None = None,
        may_ask: Callable[[], Awaitable[bool]] | None = None,
    ) -> ServerRecord:
        """Execute an action; return the action server's record of it, which may show a failure.

        The action is never executed twice, even if this call is repeated with the same key after a restart.

        Args:
            action: the name of the action.
            parameters: the parameters of the action.
            key: the idempotency key; the caller stores it before this call.
            state_digest: the digest of the service's state when the action was chosen. The server executes the action
                only in this state; with None, in any state.
            may_ask: called before each retry. If it returns False, the client stops, and only searches for the record.

        Raises:
            OutcomeUnknownError: it is unknown whether the action was done.
            ActionServerError: the action was not done.
        """
        path = _path(action) + (f"?if_state={quote(state_digest, safe='')}" if state_digest is not None else "")
        doubt: ActionServerError | None = None
        is_unknown = False
        for number in range(self._patience.max_attempts):
            if number:
                wait_s = (
                    doubt.retry_after_s if isinstance(doubt, ActionServerBusyError) else self._patience.retry_pause_s
                )
                await self._pause(min(wait_s, self._patience.max_retry_after_s))
                if may_ask is not None and not await may_ask():
                    break
            try:
                answer = await self._transport.send(
                    "POST", path, dict(parameters), self._patience.action_timeout_s, key=key
                )
                return _record_of(answer, action, key)
            except ActionServerError as error:
                if not is_unknown and not _may_have_begun(error):
                    raise
                if isinstance(error, RefusedError | StateChangedError) and error.server_code is not None:
                    # The refusal is the server's own, so it does not know the key: the earlier request was not begun.
                    raise
                doubt = error
                is_unknown = is_unknown or not isinstance(error, ActionServerBusyError)
        return await self._by_key(action, key, doubt, is_unknown=is_unknown)

    async def _by_key(
        self, action: str, key: str, doubt: ActionServerError | None, *, is_unknown: bool
    ) -> ServerRecord:
        """Search for the record of the action with the idempotency key `key`; return it if the action is finished.

        Args:
            action: the name of the action.
            key: the idempotency key.
            doubt: the error of the last request for the action; None if no request failed.
            is_unknown: whether a request may have begun the action, so that a missing record proves nothing.

        Raises:
            ActionServerBusyError: the action has no record, and was not begun because the server was busy.
            OutcomeUnknownError: the action may have been begun, but has no finished record; or reading records failed.
        """
        try:
            found = await self.find(key)
        except ActionServerError as error:
            raise _unknown_outcome(action, doubt, f"key {key!r}") from error
        if found is not None and found.action == action and found.status is not ActionStatus.ASKED:
            return found
        if found is None and doubt is not None and not is_unknown:
            # Another action was in progress all the time.
            raise doubt
        raise _unknown_outcome(action, doubt, f"key {key!r}") from doubt

    async def find(self, key: str, *, since_us: int = 0) -> ServerRecord | None:
        """Return the record of the action with an idempotency key; None if the action server has no such record (yet).

        Args:
            key: the idempotency key.
            since_us: a time before the action was requested, in microseconds since 1970. A list that goes back beyond
                this time counts as complete. Records are not filtered by it.

        Raises:
            ActionServerError: the request failed, or the server's list lacks the record and is incomplete.
        """
        records, unreadable = await self._records()
        # Do not compare times here: the clocks may differ.
        found = next((record for record in records if record.key == key), None)
        is_whole = len(records) < _MAX_RECORDS or any(record.requested_at_us < since_us for record in records)
        if found is None and (unreadable or not is_whole):
            raise UnreadableError(
                f"The list of the action server's records is incomplete, and no record in it has the key {key!r}."
            )
        return found

    async def record(self, record_id: str) -> ServerRecord:
        """Return the action server's record with the id `record_id`.

        Raises:
            ActionServerError: the record does not exist, or the request failed.
        """
        found = read_record(await self._read("GET", f"/records/{quote(record_id, safe='')}"))
        if found is None or found.record_id != record_id:
            raise UnreadableError(f"The answer to the request of record {record_id[:100]!r} is not valid.")
        return found

    async def undo(self, record_id: str) -> ServerRecord:
        """Roll back the action in record `record_id`; return the record of the rollback, whose status may be a failure.

        The server rolls back an action only once, so a repeated call is safe.

        Raises:
            OutcomeUnknownError: it is unknown whether the action was rolled back.
            ActionServerError: the rollback did not begin.
        """
        path = f"/records/{quote(record_id, safe='')}/undo"
        try:
            found = _read_answer(await self._transport.send("POST", path, {}, self._patience.action_timeout_s))
            if found is not None and found.undoes == record_id and found.status is not ActionStatus.ASKED:
                return found
            doubt: ActionServerError = UnreadableError("The answer to the undo is not a valid record.")
        except RefusedError:
            # This process may have rolled the action back before it was restarted.
            known = await self._undo_over(record_id)
            if known is None:
                raise
            return known
        except ActionServerError as error:
            if not _may_have_begun(error):
                raise
            doubt = error
        for _ in range(self._patience.max_attempts):
            await self._pause(self._patience.retry_pause_s)
            known = await self._undo_over(record_id)
            if known is not None:
                return known
        raise _unknown_outcome("undo", doubt, f"record {record_id!r}") from doubt

    async def find_undo(self, record_id: str) -> ServerRecord | None:
        """Return the rollback's record for the action with the record `record_id`; None if it was not rolled back.

        Raises:
            ActionServerError: the request failed, or the answer is incomplete and contains no rollback.
        """
        recent = await self.records_after((record_id,))
        found = [item for item in recent.records if item.undoes == record_id]
        # A rollback may have several records; one that is finished counts first.
        over = [item for item in found if item.status is not ActionStatus.ASKED]
        if not found and not recent.is_whole:
            raise UnreadableError(f"The list of the action server's records is incomplete since {record_id[:100]!r}.")
        return next(iter([*over, *found]), None)

    async def _undo_over(self, record_id: str) -> ServerRecord | None:
        """Return the rollback's record (`find_undo`) if the rollback is finished; None if not, or if reading failed."""
        try:
            found = await self.find_undo(record_id)
        except ActionServerError:
            return None
        return found if found is not None and found.status is not ActionStatus.ASKED else None

    async def _records(self) -> tuple[list[ServerRecord], int]:
        """Return `(newest 200 action records of all clients, number of invalid rows)`; times are by the local clock.

        Raises:
            ActionServerError: the request failed.
        """
        answer = await self._ask("GET", f"/records?limit={_MAX_RECORDS}")
        records, unreadable = read_records(answer.document)
        moved = [replace(record, requested_at_us=record.requested_at_us - answer.ahead_us) for record in records]
        return moved, unreadable

    async def _read(self, method: str, path: str, body: dict[str, Any] | None = None) -> JsonValue:
        """Send a request that changes nothing, and return the answer's JSON."""
        return (await self._ask(method, path, body)).document

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> ServerResponse:
        try:
            answer = await self._transport.send(method, path, body, self._patience.read_timeout_s)
            if answer.status != 200:
                raise refusal(answer)
        except OutcomeUnknownError as error:
            # A request that changes nothing has no outcome that could be unknown.
            raise UnreachableError(error.message, server_code=error.server_code) from error
        return answer


def _path(action: str) -> str:
    return f"/action/{quote(action, safe='')}"


def _record_of(answer: ServerResponse, action: str, key: str) -> ServerRecord:
    """Return the record in the server's answer to a request to execute `action`.

    Raises:
        ActionServerBusyError: this action or another one is still in progress, or there were too many requests.
        UnreadableError: the answer contains no valid record of this action and key.
        ActionServerError: the server answered with an error.
    """
    found = _read_answer(answer)
    if found is None or found.action != action or found.key != key:
        raise UnreadableError(f"The answer to {action} is not a valid record.")
    if found.status is ActionStatus.ASKED:
        raise ActionServerBusyError(f"{action} is in progress.", retry_after_s=1.0, server_code=IN_PROGRESS)
    return found


def _read_answer(answer: ServerResponse) -> ServerRecord | None:
    document = answer.document
    listed = document.get("record") if isinstance(document, Mapping) else None
    # The server answers a failed action with 502 and its record.
    if answer.status not in {200, 502} or listed is None:
        raise refusal(answer)
    return read_record(listed)


def _may_have_begun(error: ActionServerError) -> bool:
    """Return whether the server may have begun an action although its request raised `error`."""
    if isinstance(error, ActionServerBusyError):
        # This action itself may be in progress, if this process requested it with the same key before it was killed.
        return error.server_code == IN_PROGRESS
    return isinstance(error, OutcomeUnknownError | UnreadableError)


def _unknown_outcome(action: str, doubt: ActionServerError | None, by: str) -> OutcomeUnknownError:
    said = f": {doubt.message}" if doubt is not None else "."
    return OutcomeUnknownError(
        f"It is unknown whether {action} was done{said}", remedy=f"Check it by its {by} when the server answers again."
    )


def _recent(found: list[ServerRecord], records: list[ServerRecord], unreadable: int) -> RecentRecords:
    is_whole = not unreadable and (len(found) < len(records) or len(records) < _MAX_RECORDS)
    return RecentRecords(tuple(found), is_whole=is_whole)
