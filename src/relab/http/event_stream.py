"""Server-sent events: read `Last-Event-ID` from the request, and send the later events in a streaming response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Annotated, Any, Final, TypeVar

from fastapi import Depends, Header
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import WithJsonSchema
from starlette.types import Receive, Scope, Send

from relab.core.errors import InvalidInputError, OverloadedError
from relab.http.problems import scoped_problems
from relab.progress.tailer import NumberedEvent
from relab.serving.limits import BEGIN_STREAM

_Event = TypeVar("_Event", bound=NumberedEvent)
_EVENT: Final = {
    "type": "object",
    "description": "One event of the stream.",
    "required": ["id", "data"],
    "properties": {"id": {"type": "string", "pattern": "^[0-9]+$"}, "data": {"type": "string", "description": "JSON."}},
}
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def get_after(
    last_event_id: Annotated[
        str | None,
        Header(max_length=20, description="The `id` of the last event received; only later ones are sent."),
        # Without this the document would also allow null, which a header cannot be.
        WithJsonSchema({"type": "string", "pattern": "^[0-9]*$", "maxLength": 20}),
    ] = None,
) -> int:
    """Return the number of the last event that the client has received (`Last-Event-ID`); 0 without the header.

    Raises:
        InvalidInputError: the header is not a number.
    """
    if last_event_id is None or last_event_id == "":
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit()):
        raise InvalidInputError(
            "Last-Event-ID is not an event id of this stream.",
            problems=(("header.Last-Event-ID", "must be the number of an event"),),
        )
    return int(last_event_id)


AfterDep = Annotated[int, Depends(get_after)]


def stream_responses(example: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that returns an event stream.

    `example` is the text of an example stream.
    """
    return {
        200: {"content": {"text/event-stream": {"schema": _EVENT, "example": example}}},
        **scoped_problems(404),
    }


class _EventStream(StreamingResponse):
    """A response that sends events until the client disconnects. The server limits the number of such open streams."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, unless too many event streams are open.

        Raises:
            OverloadedError: too many event streams are open.
        """
        begin = scope.get("state", {}).get(BEGIN_STREAM)
        if begin is not None and not begin():
            raise OverloadedError("Too many event streams are open.", retry_after_s=5)
        await super().__call__(scope, receive, send)


def stream(events: AsyncGenerator[_Event | None], text: Callable[[_Event], str]) -> StreamingResponse:
    """Return a response that sends each event as soon as it is generated.

    Args:
        events: the events; None sends a comment, which keeps the connection open.
        text: returns the data of an event as text.
    """
    return _EventStream(_sent(events, text), media_type="text/event-stream", headers=_HEADERS)


async def _sent(events: AsyncGenerator[_Event | None], text: Callable[[_Event], str]) -> AsyncIterator[bytes]:
    # Close the generator as soon as the client disconnects, not when it is garbage-collected.
    async with aclosing(events):
        async for event in events:
            yield KEEPALIVE_COMMENT if event is None else format_sse_event(data_str=text(event), id=str(event.seq))
