"""Send one prompt to a LangChain chat model and return its message; retry temporary failures.

This module and the provider's module are imported lazily: their libraries take seconds to load and are part of the
extra `[llm]`. The two modules ensure that the HTTP client follows no redirect, limits the size of a response and does
not retry by itself; that no key, URL or proxy comes from the provider's environment variables; and that LangChain sends
no trace of the call.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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
from relab.llm.output_methods import other_methods
from relab.llm.provider import ChatSdk

_KEYLESS = SecretStr("none")
"""The key for a server that needs no key: if no key were set, the SDK would send `OPENAI_API_KEY` to it."""

_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?")

_RETRYABLE_4XX = frozenset({408, 409, 425, 429})

_TOO_LONG = (
    "context_length_exceeded",
    "exceed_context_size",
    "context length",
    "context size",
    "context window",
    "prompt is too long",
)
"""Words by which servers say that a prompt does not fit the model's context; they have no common error code."""

_NO_SUCH_MODEL = ("model_not_found", "model not found", "invalid model name", "unknown model", "no such model")
"""Words in the answers of servers and proxies that lack the model, but do not answer with the status 404."""

_TOO_LONG_STATUSES = frozenset({400, 413, 422})

_NOT_CONNECTED = frozenset({"ConnectError", "ConnectTimeout"})
"""The exceptions of the HTTP libraries that show that no request was sent; different SDKs use different libraries."""

_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError, UserWarning)
"""The exceptions that LangChain and the SDKs raise if a response violates the protocol.

Pydantic emits `UserWarning` for a value of another type; it is an exception where warnings are errors.
"""


class ChatBackend:
    """Calls language models of one provider.

    Args:
        sdk: the part of a call that differs between providers.
    """

    def __init__(self, sdk: ChatSdk) -> None:
        self._sdk = sdk

    async def ask(self, config: LlmConfig, prompt: Prompt, schema: type[BaseModel], *, ends_at: float) -> AIMessage:
        """Send a prompt to the model and return the model's message; retry temporary failures while time is left.

        Args:
            config: the model and the limits of the call.
            prompt: the prompt.
            schema: the schema that the model is asked to follow in its answer.
            ends_at: the deadline, as a time of `time.monotonic`. No retry starts later. The caller must cancel this
                coroutine at the deadline.

        Raises:
            LlmError: the last attempt failed, for example because the server cannot be reached or rejects the request.
        """
        messages = [("system", _system(prompt, config.method, schema)), ("human", prompt.user)]
        # This overrides LANGSMITH_TRACING and similar variables, which may be set for other programs.
        with tracing_context(enabled=False):
            async with _open_model(self._sdk, config) as chat_model:
                model = _bind(chat_model, config.method, schema)
                attempt, may_cost = 0, False
                while True:
                    failure: LlmError
                    try:
                        return await model.ainvoke(messages)
                    except (self._sdk.base_error, LlmError, *_MALFORMED) as error:
                        failure = _translate(error, self._sdk, config)
                    # An earlier attempt may have reached the model.
                    failure.may_cost = may_cost = may_cost or failure.may_cost
                    # Raise outside of the `except` block, so that the server's text is not chained to the error.
                    pause_s = _pause_s(failure, attempt, config)
                    if pause_s is None or time.monotonic() + pause_s >= ends_at:
                        raise failure
                    await asyncio.sleep(pause_s)
                    attempt += 1

    async def list_models(self, config: LlmConfig) -> tuple[str, ...] | None:
        """Return the names of the models that the server offers; None if the server has no valid list.

        Raises:
            LlmError: the server cannot be reached, or rejects the request.
        """
        async with _open_model(self._sdk, config) as model:
            try:
                page = await self._sdk.client_of(model).models.list()
                return tuple(str(each.id) for each in page.data)
            except (self._sdk.sdk.NotFoundError, *_MALFORMED):
                return None
            except (self._sdk.base_error, LlmError) as error:
                failure = _translate(error, self._sdk, config)
        raise failure


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
    """Return the wait before the next attempt of a call, in seconds; None if the call must not be retried.

    Only an `LlmUnavailableError` is retried. `attempt` is the number of the failed attempt, from 0.
    """
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
async def _open_model(sdk: ChatSdk, config: LlmConfig) -> AsyncIterator[BaseChatModel]:
    client_class = bounded(sdk.sdk.DefaultAsyncHttpxClient, config.max_response_bytes)
    headers = {"Accept-Encoding": "identity"}
    # The client needs no timeout, because the deadline of the whole call limits every part of it.
    async with client_class(timeout=None, follow_redirects=False, headers=headers, verify=_tls()) as client:
        yield sdk.make_model(model_options(config), client)


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


def _translate(error: BaseException, sdk: ChatSdk, config: LlmConfig) -> LlmError:
    """Return the `LlmError` for an exception of a call.

    The text of the SDK's exception is left out, because it is untrusted and may contain the API key.
    """
    # The text of the exception is untrusted, and may contain the key.
    own: BaseException | None = error
    while own is not None:
        if isinstance(own, LlmError):
            return own
        own = own.__cause__ or own.__context__
    if isinstance(error, sdk.sdk.APIStatusError):
        return _status_error(error.status_code, error.response, config)
    if isinstance(error, sdk.sdk.APIConnectionError):
        causes = list(_causes(error))
        return LlmUnavailableError(
            f"The model server {_origin(config)} cannot be reached, or closed the connection ({type(causes[-1]).__name__}).",
            may_cost=not any(type(cause).__name__ in _NOT_CONNECTED for cause in causes),
            remedy="Check RELAB_LLM__BASE_URL, the server and the network.",
        )
    return LlmInvalidOutputError(
        f"The answer of {_origin(config)} violates the {config.provider} protocol ({type(error).__name__})."
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _status_error(status: int, response: Any, config: LlmConfig) -> LlmError:
    said = f"The model server {_origin(config)} answered with HTTP {status}"
    if status in {401, 403}:
        return LlmNotConfiguredError(f"{said}: the API key is not accepted.", remedy="Set a valid RELAB_LLM__API_KEY.")
    if status in _TOO_LONG_STATUSES and any(words in response.text.lower() for words in _TOO_LONG):
        return LlmNotConfiguredError(
            f"{said}: the prompt and the answer do not fit the context of the model {config.model!r}.",
            remedy="Use a model or a server with a larger context; for the judge, lower RELAB_RCA__JUDGE_CONTEXT_TOKENS.",
        )
    if status in _RETRYABLE_4XX or status >= 500:
        wait_s = _retry_after_s(response.headers)
        return LlmUnavailableError(
            f"{said}." if wait_s is None else f"{said}, and asks for a wait of {wait_s:g} s.",
            status=status,
            retry_after_s=wait_s,
            remedy=(other_methods(config) if status == 500 else None) or "Repeat it later.",
        )
    if status in {400, 422} and any(words in response.text.lower() for words in _NO_SUCH_MODEL):
        return LlmNotConfiguredError(
            f"{said}: it does not have the model {config.model!r}.",
            remedy="Set RELAB_LLM__MODEL to one of its models, which `lab doctor` names.",
        )
    if status == 404:
        return LlmNotConfiguredError(
            f"{said} for the model {config.model!r}.",
            remedy="Check RELAB_LLM__MODEL and RELAB_LLM__BASE_URL; many servers need /v1 at its end.",
        )
    return _rejection(said, status, config)


def _rejection(said: str, status: int, config: LlmConfig) -> LlmNotConfiguredError:
    """Return the error for a redirect, or for an HTTP status whose reason is unknown; its remedy lists what to check.

    `said` is the first part of the error message: the server and the status.
    """
    if 300 <= status < 400:
        return LlmNotConfiguredError(
            f"{said}, a redirect. relab does not follow it, because it would send the API key to another address.",
            remedy="Set RELAB_LLM__BASE_URL to the final address, often https instead of http, or with /v1 at its end.",
        )
    # Some proxies answer a wrong key with 400 too.
    checks = (
        f"Check RELAB_LLM__API_KEY, RELAB_LLM__BASE_URL, RELAB_LLM__MODEL ({config.model}) and RELAB_LLM__TEMPERATURE "
        "(some models accept only default)."
    )
    return LlmNotConfiguredError(f"{said}.", remedy=" ".join(filter(None, (checks, other_methods(config)))))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the wait in seconds that the header Retry-After requests; None if it is missing or not valid.

    The header has a date or a number of seconds; some servers send fractions of a second. A date is compared with the
    header Date of the answer, if it exists, because the clocks of the server and of this machine may differ.
    """
    text = headers.get("Retry-After", "")
    if _SECONDS.fullmatch(text):
        return float(text)
    at, now = _date(text), _date(headers.get("Date", "")) or datetime.now(UTC)
    return None if at is None else max(0.0, (at - now).total_seconds())


def _date(text: str) -> datetime | None:
    """Return the moment that an HTTP date names, as an aware datetime; None if `text` is no such date."""
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _origin(config: LlmConfig) -> str:
    parts = urlsplit(config.endpoint)
    return f"{parts.scheme}://{parts.netloc}"
