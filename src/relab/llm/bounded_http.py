"""Create an HTTP client that limits the size of responses, as a subclass of an SDK's client class."""

from __future__ import annotations

from typing import Any

from relab.llm.errors import LlmInvalidOutputError


def bounded(client_class: type[Any], max_bytes: int) -> type[Any]:
    """Return a subclass of an SDK's asynchronous HTTP client that reads at most `max_bytes` of a response's body.

    The method `send` of the subclass returns a complete response. It raises `LlmInvalidOutputError` if the body is
    larger or compressed.
    """

    async def send(self: Any, request: Any, **options: Any) -> Any:
        response = await client_class.send(self, request, **{**options, "stream": True})
        try:
            # A small compressed body could expand to a huge one.
            body = await _read(response, max_bytes)
        finally:
            await response.aclose()
        return type(response)(response.status_code, headers=response.headers, content=body, request=request)

    # The SDKs and their versions use different HTTP libraries, so this is a subclass of the SDK's own class.
    return type("BoundedClient", (client_class,), {"send": send})


async def _read(response: Any, max_bytes: int) -> bytes:
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
