"""The client of an action server: what comes back is a value to rely on, or an error that says what to do about it."""

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
from relab.incidents.acting.answers import IN_PROGRESS, Answer, refusal
from relab.incidents.acting.catalogue import Catalogue, ParameterValue, read_catalogue
from relab.incidents.acting.errors import (
    ActionServerError,
    BusyError,
    OutcomeUnknownError,
    RefusedError,
    StateChangedError,
    UnreachableError,
    UnreadableError,
)
from relab.incidents.acting.records import ActStatus, ServerRecord, read_record, read_records
from relab.incidents.acting.transport import Transport

_MOST_RECORDS: Final = 200
_DIGEST: Final = re.compile(r"[!-~]{1,100}")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the action server is waited for.

    Attributes:
        look_s: for anything that changes nothing.
        act_s: for an action; a restart of a database takes its time.
        asks: how often an action whose outcome is not known is asked for with its key, the first time included.
        pause_s: between these.
        most_wait_s: the longest that a `Retry-After` is waited out.
    """

    look_s: float = 5.0
    act_s: float = 90.0
    asks: int = 4
    pause_s: float = 2.0
    most_wait_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a dry run has found: the action would be done.

    Attributes:
        state: that the action concerns.
        state_digest: names that state; None if the server gives none.
    """

    state: Mapping[str, Any]
    state_digest: str | None


@dataclass(frozen=True, slots=True)
class Recent:
    """What was done to the service lately.

    Attributes:
        records: newest first.
        is_whole: whether nothing of the time asked for may be missing.
    """

    records: tuple[ServerRecord, ...]
    is_whole: bool


class ActionsClient:
    """Asks an action server.

    Args:
        url: where it is.
        token: who asks.
        patience: how long it is waited for.
        pause: waits some seconds; tests pass one that does not.
        transport: another one than the network, in tests.

    Raises:
        ConfigurationError: the address or the token cannot be one.
    """

    def __init__(
        self,
        url: str,
        token: str | None,
        patience: Patience | None = None,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._pause = pause
        self._transport = Transport(url, token, connect_s=self._patience.look_s, transport=transport)

    async def catalogue(self) -> Catalogue:
        """Return what the server offers; what nobody can read of it is left out.

        Raises:
            ActionServerError: it does not say.
        """
        return read_catalogue(await self._look("GET", "/actions"))

    async def is_stopped(self) -> bool:
        """Return whether the server's kill switch is on.

        Raises:
            ActionServerError: it does not say.
        """
        document = await self._look("GET", "/kill-switch")
        stopped = document.get("stopped") if isinstance(document, Mapping) else None
        if not isinstance(stopped, bool):
            raise UnreadableError("The action server does not say whether its kill switch is on.")
        return stopped

    async def records_since(self, at_us: int) -> Recent:
        """Return what was done from a time on, by anybody.

        Raises:
            ActionServerError: it does not say.
        """
        records, unreadable = await self._records()
        found = tuple(record for record in records if record.requested_at_us >= at_us)
        return Recent(found, is_whole=not unreadable and (len(found) < len(records) or len(records) < _MOST_RECORDS))

    async def records_after(self, seen: Collection[str]) -> Recent:
        """Return what was done after some records, by anybody; everything if none of these is known any more.

        Args:
            seen: ids of records; the server lists the newest first, whatever the clocks say.

        Raises:
            ActionServerError: it does not say.
        """
        records, unreadable = await self._records()
        found = tuple(itertools.takewhile(lambda record: record.record_id not in seen, records))
        return Recent(found, is_whole=not unreadable and (len(found) < len(records) or len(records) < _MOST_RECORDS))

    async def dry_run(self, action: str, parameters: Mapping[str, ParameterValue]) -> Found:
        """Return the state that an action would find, if it would be done now.

        Raises:
            ActionServerError: it would not be, or the server does not say.
        """
        document = await self._look("POST", f"{_path(action)}?dry_run=true", dict(parameters))
        state = document.get("before") if isinstance(document, Mapping) else None
        if not isinstance(document, Mapping) or document.get("dry_run") is not True or not isinstance(state, Mapping):
            raise UnreadableError(f"The answer to a dry run of {action} is none.")
        name = state.get("state_digest")
        return Found(state, name if isinstance(name, str) and _DIGEST.fullmatch(name) else None)

    async def execute(
        self,
        action: str,
        parameters: Mapping[str, ParameterValue],
        *,
        key: str,
        state_digest: str | None = None,
        may_ask: Callable[[], Awaitable[bool]] | None = None,
    ) -> ServerRecord:
        """Have an action done once, and return the server's record of it, whether it succeeded or not.

        Where nobody knows whether it was done it is asked for again with the same key, which the server answers with
        what was done; never with another. The same call may be made again at any time, also after a restart.

        Args:
            action: its name.
            parameters: of it.
            key: follows from the incident and the attempt, and is stored before this is called.
            state_digest: of the state in which it was decided; in another one the server refuses.
            may_ask: whether it may be asked for once more; asked each time before that. If not, its record alone is
                looked for.

        Raises:
            OutcomeUnknownError: nobody knows whether it was done.
            ActionServerError: it was not done.
        """
        path = _path(action) + (f"?if_state={quote(state_digest, safe='')}" if state_digest is not None else "")
        doubt: ActionServerError | None = None
        is_unknown = False
        for number in range(self._patience.asks):
            if number:
                wait_s = doubt.retry_after_s if isinstance(doubt, BusyError) else self._patience.pause_s
                await self._pause(min(wait_s, self._patience.most_wait_s))
                if may_ask is not None and not await may_ask():
                    break
            try:
                answer = await self._transport.send("POST", path, dict(parameters), self._patience.act_s, key=key)
                return _record_of(answer, action, key)
            except ActionServerError as error:
                if not is_unknown and not _may_have_begun(error):
                    raise
                if isinstance(error, RefusedError | StateChangedError) and error.server_code is not None:
                    # The server itself, and it knows nothing of the key: what was asked for before was not begun.
                    raise
                doubt = error
                is_unknown = is_unknown or not isinstance(error, BusyError)
        return await self._by_key(action, key, doubt, is_unknown=is_unknown)

    async def _by_key(
        self, action: str, key: str, doubt: ActionServerError | None, *, is_unknown: bool
    ) -> ServerRecord:
        """Return the record with a key, after the server has not answered the request itself."""
        try:
            found = await self.find(key)
        except ActionServerError as error:
            raise _unknown_outcome(action, doubt, f"key {key!r}") from error
        if found is not None and found.action == action and found.act_status is not ActStatus.ASKED:
            return found
        if found is None and doubt is not None and not is_unknown:
            # Something else was at work all the time.
            raise doubt
        raise _unknown_outcome(action, doubt, f"key {key!r}") from doubt

    async def find(self, key: str, *, since_us: int = 0) -> ServerRecord | None:
        """Return the record that was made for a key, without asking for anything; None if there is none.

        What was sent a moment ago may still be on its way.

        Args:
            key: of the act.
            since_us: it was asked for later than this; what is older need not be told of.

        Raises:
            ActionServerError: the server does not say, or not of everything.
        """
        records, unreadable = await self._records()
        # Whenever it was done, by whatever clock.
        found = next((record for record in records if record.key == key), None)
        is_whole = len(records) < _MOST_RECORDS or any(record.requested_at_us < since_us for record in records)
        if found is None and (unreadable or not is_whole):
            raise UnreadableError(f"The action server does not tell of all records; none of them has the key {key!r}.")
        return found

    async def record(self, record_id: str) -> ServerRecord:
        """Return the record of an action.

        Raises:
            ActionServerError: there is none, or the server does not say.
        """
        found = read_record(await self._look("GET", f"/records/{quote(record_id, safe='')}"))
        if found is None or found.record_id != record_id:
            raise UnreadableError(f"The answer to the record {record_id[:100]!r} is none.")
        return found

    async def undo(self, record_id: str) -> ServerRecord:
        """Have an action taken back, and return the record of that, whether it succeeded or not.

        The server takes an action back once. Where nobody knows whether it did, its record says.

        Raises:
            OutcomeUnknownError: nobody knows whether it was taken back.
            ActionServerError: it was not.
        """
        path = f"/records/{quote(record_id, safe='')}/undo"
        try:
            found = _read_answer(await self._transport.send("POST", path, {}, self._patience.act_s))
            if found is not None and found.undoes == record_id and found.act_status is not ActStatus.ASKED:
                return found
            doubt: ActionServerError = UnreadableError("The answer to an undo is no record of it.")
        except RefusedError:
            # Perhaps it was taken back already, before a restart of ours.
            known = await self._undo_over(record_id)
            if known is None:
                raise
            return known
        except ActionServerError as error:
            if not _may_have_begun(error):
                raise
            doubt = error
        for _ in range(self._patience.asks):
            await self._pause(self._patience.pause_s)
            known = await self._undo_over(record_id)
            if known is not None:
                return known
        raise _unknown_outcome("undo", doubt, f"record {record_id!r}") from doubt

    async def find_undo(self, record_id: str) -> ServerRecord | None:
        """Return the record of what took another record back, without asking for anything; None if there is none.

        Raises:
            ActionServerError: the server does not say, or not of everything since then.
        """
        recent = await self.records_after((record_id,))
        found = [item for item in recent.records if item.undoes == record_id]
        # One that failed may have been tried again; the one that is over counts.
        over = [item for item in found if item.act_status is not ActStatus.ASKED]
        if not found and not recent.is_whole:
            raise UnreadableError(f"The action server does not tell of all records since {record_id[:100]!r}.")
        return next(iter([*over, *found]), None)

    async def _undo_over(self, record_id: str) -> ServerRecord | None:
        """Return the record of an undo that is over; None if there is none, or nobody can tell."""
        try:
            found = await self.find_undo(record_id)
        except ActionServerError:
            return None
        return found if found is not None and found.act_status is not ActStatus.ASKED else None

    async def _records(self) -> tuple[list[ServerRecord], int]:
        """Return the newest records of everybody's acts, at times of our clock, and how many nobody can read.

        Raises:
            ActionServerError: the server does not say.
        """
        answer = await self._ask("GET", f"/records?limit={_MOST_RECORDS}")
        records, unreadable = read_records(answer.document)
        moved = [replace(record, requested_at_us=record.requested_at_us - answer.ahead_us) for record in records]
        return moved, unreadable

    async def _look(self, method: str, path: str, body: dict[str, Any] | None = None) -> JsonValue:
        """Return the JSON of an answer to a request that changes nothing."""
        return (await self._ask(method, path, body)).document

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        try:
            answer = await self._transport.send(method, path, body, self._patience.look_s)
            if answer.status != 200:
                raise refusal(answer)
        except OutcomeUnknownError as error:
            # There is no outcome of a look.
            raise UnreachableError(error.message, server_code=error.server_code) from error
        return answer


def _path(action: str) -> str:
    return f"/action/{quote(action, safe='')}"


def _record_of(answer: Answer, action: str, key: str) -> ServerRecord:
    """Return the record in an answer to an action.

    Raises:
        BusyError: the action is at work.
        UnreadableError: the record is none, or of something else.
        ActionServerError: the server refuses.
    """
    found = _read_answer(answer)
    if found is None or found.action != action or found.key != key:
        raise UnreadableError(f"The answer to {action} is no record of it.")
    if found.act_status is ActStatus.ASKED:
        raise BusyError(f"{action} is at work.", retry_after_s=1.0, server_code=IN_PROGRESS)
    return found


def _read_answer(answer: Answer) -> ServerRecord | None:
    document = answer.document
    told = document.get("record") if isinstance(document, Mapping) else None
    # What was tried and did not succeed is answered with 502 and its record.
    if answer.status not in {200, 502} or told is None:
        raise refusal(answer)
    return read_record(told)


def _may_have_begun(error: ActionServerError) -> bool:
    """Return whether an action may have been begun although this came of the request for it."""
    if isinstance(error, BusyError):
        # Perhaps it is this one that is under way: asked for with the same key, before a kill of ours.
        return error.server_code == IN_PROGRESS
    return isinstance(error, OutcomeUnknownError | UnreadableError)


def _unknown_outcome(action: str, doubt: ActionServerError | None, by: str) -> OutcomeUnknownError:
    said = f": {doubt.message}" if doubt is not None else "."
    return OutcomeUnknownError(
        f"Nobody knows whether {action} was done{said}", remedy=f"Ask again by its {by} when the server answers."
    )
