"""The chat model of Anthropic."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import anthropic
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from pydantic import Field

from relab.llm.chat import ChatBackend, model_options
from relab.llm.models import LlmConfig

# Newer SDKs create OpenTelemetry spans and send the id of the caller's trace to the server; this disables both.
_UNTRACED: dict[str, Any] = (
    {"open_telemetry": {"traces": {"enabled": False}, "propagation": False}}
    if "open_telemetry" in inspect.signature(anthropic.AsyncAnthropic).parameters
    else {}
)


class _BoundedChatAnthropic(ChatAnthropic):
    """A ChatAnthropic with a given HTTP client; it overrides `_async_client`, because there is no parameter for it."""

    bounded_http_client: Any = Field(default=None, exclude=True, repr=False)

    @functools.cached_property
    def _async_client(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(**self._client_params, **_UNTRACED, http_client=self.bounded_http_client)


def _make_model(config: LlmConfig, client: Any) -> BaseChatModel:
    return _BoundedChatAnthropic(**model_options(config), bounded_http_client=client)


BACKEND = ChatBackend(sdk=anthropic, base_error=anthropic.AnthropicError, make_model=_make_model)
