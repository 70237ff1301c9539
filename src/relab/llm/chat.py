"""Send one prompt to a LangChain chat model, with the guarantees of the gateway.

This module and the provider's module are imported lazily: their libraries take seconds to load and are part of the
extra `[llm]`. The two modules ensure that the HTTP client follows no redirect, limits the size of a response and does
not retry by itself; that no key, URL or proxy comes from the provider's environment variables; and that LangChain sends
no trace of the call.
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from langsmith import tracing_context
from pydantic import BaseModel, SecretStr

from relab.llm.bounded_http import bounded
from relab.llm.config import LlmConfig
from relab.llm.errors import LlmError, LlmInvalidOutputError, LlmNotConfiguredError, LlmUnavailableError
from relab.llm.models import OutputMethod, Prompt

_KEYLESS = SecretStr("none")
"""The key for a server that needs no key: if no key were set, the SDK would send `OPENAI_API_KEY` to it."""

_RETRYABLE_4XX = frozenset({408, 409, 425, 429})

_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, UserWarning)
"""The exceptions that LangChain and the SDKs raise if a response violates the protocol.

Pydantic emits `UserWarning` for a value of another type; it is an exception where warnings are errors.
"""


@dataclass(frozen=True, slots=True)
class ChatBackend:
    """The part of a call to a language model that differs between providers: their SDK and their chat model.

    Attributes:
        sdk: the module of the provider's SDK; every SDK has `APIStatusError`, `APIConnectionError` and
            `DefaultAsyncHttpxClient`.
        base_error: the base class of the SDK's exceptions.
        make_model: a function that returns the chat model for a configuration and an HTTP client.
    """

    sdk: ModuleType
    base_error: type[Exception]
    make_model: Callable[[LlmConfig, Any], BaseChatModel]

    async def ask(self, config: LlmConfig, prompt: Prompt, schema: type[BaseModel], *, ends_at: float) -> AIMessage:
        """Send a prompt to the model and return the model's message; retry temporary failures while time is left.

        Args:
            config: the model and the limits of the call.
            prompt: the prompt.
            schema: the schema that the model is asked to follow in its answer.
            ends_at: the deadline, as a time of `time.monotonic`; the caller cancels this coroutine at that time.

        Raises:
            LlmError: there is no message: the server cannot be reached, rejects the request, or the deadline passed.
        """
        messages = [("system", _system(prompt, config.method, schema)), ("human", prompt.user)]
        # This overrides LANGSMITH_TRACING and similar variables, which may be set for other programs.
        with tracing_context(enabled=False):
            async with _open_model(self, config, schema) as model:
                attempt = 0
                while True:
                    failure: LlmError
                    try:
                        return await model.ainvoke(messages)
                    except (self.base_error, LlmError, *_MALFORMED) as error:
                        failure = _translate(error, self, config)
                    # Raise outside of the `except` block, so that the server's text is not chained to the error.
                    pause_s = _pause_s(failure, attempt, config)
                    if pause_s is None or time.monotonic() + pause_s >= ends_at:
                        raise failure
                    await asyncio.sleep(pause_s)
                    attempt += 1


def model_options(config: LlmConfig) -> dict[str, Any]:
    """Return the keyword arguments for the LangChain chat model of any provider, such as `temperature`."""
    return {
        "model": config.model,
        "base_url": config.endpoint,
        "api_key": config.api_key or _KEYLESS,
        "temperature": config.temperature,
        "max_tokens": config.max_completion_tokens,
        "max_retries": 0,
        "timeout": None,
        "cache": False,
        "verbose": False,
    }


def _pause_s(failure: LlmError, attempt: int, config: LlmConfig) -> float | None:
    """Return the wait before the next attempt, in seconds; None if the call must not be retried after this failure."""
    if not isinstance(failure, LlmUnavailableError) or attempt >= config.max_retries:
        return None
    return max(config.retry_backoff_s * 2.0**attempt, failure.retry_after_s or 0.0)


def _system(prompt: Prompt, method: OutputMethod, schema: type[BaseModel]) -> str:
    if method is not OutputMethod.JSON_MODE:
        return prompt.system
    # In JSON mode, only the prompt contains the schema, and OpenAI requires the word JSON in it.
    wanted = json.dumps(schema.model_json_schema(), separators=(",", ":"))
    return f"{prompt.system}\n\nAnswer with one JSON object of this JSON schema, and nothing else:\n{wanted}"


@asynccontextmanager
async def _open_model(
    backend: ChatBackend, config: LlmConfig, schema: type[BaseModel]
) -> AsyncIterator[Runnable[LanguageModelInput, AIMessage]]:
    client_class = bounded(backend.sdk.DefaultAsyncHttpxClient, config.max_response_bytes)
    headers = {"Accept-Encoding": "identity"}
    # The client needs no timeout, because the deadline of the whole call limits every part of it.
    async with client_class(timeout=None, follow_redirects=False, headers=headers, verify=_tls()) as client:
        yield _bind(backend.make_model(config, client), config.method, schema)


@functools.cache
def _tls() -> ssl.SSLContext:
    # The context is shared, because each call creates a client, and loading the certificates takes 75 ms.
    return httpx.create_ssl_context()


def _bind(
    model: BaseChatModel, method: OutputMethod, schema: type[BaseModel]
) -> Runnable[LanguageModelInput, AIMessage]:
    tool = convert_to_openai_tool(schema, strict=True)
    if method is OutputMethod.FUNCTION_CALLING:
        return model.bind_tools([tool], tool_choice=tool["function"]["name"])
    # Pass `response_format` in `extra_body`: as a parameter, it makes the SDK parse the answer,
    # and then a cut-off or refused answer raises an exception without token counts.
    if method is OutputMethod.JSON_MODE:
        return model.bind(extra_body={"response_format": {"type": "json_object"}})
    function = tool["function"]
    wanted = {"name": function["name"], "schema": function["parameters"], "strict": True}
    return model.bind(extra_body={"response_format": {"type": "json_schema", "json_schema": wanted}})


def _translate(error: BaseException, backend: ChatBackend, config: LlmConfig) -> LlmError:
    """Convert an exception of the SDK to an `LlmError` without the exception's text."""
    # The text of the exception is untrusted, and may contain the key.
    own: BaseException | None = error
    while own is not None:
        if isinstance(own, LlmError):
            return own
        own = own.__cause__ or own.__context__
    if isinstance(error, backend.sdk.APIStatusError):
        return _status_error(error.status_code, error.response.headers.get("Retry-After"), config)
    if isinstance(error, backend.sdk.APIConnectionError):
        return LlmUnavailableError(
            f"The model server {_origin(config)} cannot be reached, or closed the connection ({type(_root(error)).__name__}).",
            remedy="Check the base URL and the network.",
        )
    return LlmInvalidOutputError(
        f"The answer of {_origin(config)} violates the {config.provider} protocol ({type(error).__name__})."
    )


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _status_error(status: int, retry_after: str | None, config: LlmConfig) -> LlmError:
    said = f"The model server {_origin(config)} answered with HTTP {status}"
    if status in _RETRYABLE_4XX or status >= 500:
        return LlmUnavailableError(f"{said}.", status=status, retry_after_s=_seconds(retry_after))
    if status in {401, 403}:
        return LlmNotConfiguredError(f"{said}: the API key is not accepted.", remedy="Set a valid key.")
    if status == 404:
        return LlmNotConfiguredError(
            f"{said} for the model {config.model!r}.", remedy="Check the model's name and the base URL."
        )
    return LlmNotConfiguredError(
        f"{said}.",
        remedy=(
            f"Check the model's name, the base URL, the temperature (some models reject one) "
            f"and output_method ({config.method} is in use)."
        ),
    )


def _seconds(retry_after: str | None) -> float | None:
    """Return the number of seconds in a Retry-After header; None if the header is missing or holds no such number."""
    # HTTP also allows a date, but no model provider sends one.
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit() or len(retry_after) > 6:
        return None
    return float(retry_after)


def _origin(config: LlmConfig) -> str:
    parts = urlsplit(config.endpoint)
    return f"{parts.scheme}://{parts.netloc}"
