"""Create a subclass of an SDK's HTTP client class that limits the size of responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from relab.llm.errors import LlmInvalidOutputError

_FOREIGN_TYPES: Final[Mapping[str, tuple[str, str]]] = {
    "text/html": (
        "The server answered with an HTML page, not as a model server.",
        "Check RELAB_LLM__BASE_URL; many servers need /v1 at its end.",
    ),
    "text/event-stream": (
        "The model server answered with a stream, although the request did not ask for one.",
        "Turn streaming off on the server or its proxy; relab reads only complete answers.",
    ),
}
"""`{content type: (problem, remedy)}` of answers that no protocol allows; the SDKs would report them as a type error."""


def bounded(client_class: type[Any], max_bytes: int) -> type[Any]:
    """Return a subclass of an SDK's asynchronous HTTP client that reads at most `max_bytes` of a response's body.

    The method `send` of the subclass returns a complete response. It raises `LlmInvalidOutputError` if the body is
    larger or compressed, or if a successful answer is an HTML page or a stream.
    """

    async def send(self: Any, request: Any, **options: Any) -> Any:
        response = await client_class.send(self, request, **{**options, "stream": True})
        try:
            _reject_foreign_type(response)
            body = await _read(response, max_bytes)
        finally:
            await response.aclose()
        return type(response)(response.status_code, headers=response.headers, content=body, request=request)

    # The SDKs and their versions use different HTTP libraries, so this is a subclass of the SDK's own class.
    return type("BoundedClient", (client_class,), {"send": send})


def _reject_foreign_type(response: Any) -> None:
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if response.is_success and content_type in _FOREIGN_TYPES:
        problem, remedy = _FOREIGN_TYPES[content_type]
        raise LlmInvalidOutputError(problem, remedy=remedy)


async def _read(response: Any, max_bytes: int) -> bytes:
    # A small compressed body could expand to a huge one.
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise LlmInvalidOutputError("The model server's answer is compressed, although the request did not allow that.")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise LlmInvalidOutputError(
                f"The model server's answer is larger than {max_bytes} bytes.",
                remedy="Check that RELAB_LLM__BASE_URL is the URL of a model server.",
            )
    return bytes(body)
