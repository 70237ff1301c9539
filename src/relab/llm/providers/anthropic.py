"""The provider Anthropic, for Anthropic's servers and every server with a compatible protocol."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from relab.llm.models import OutputMethod
from relab.llm.provider import ChatSdk, Provider

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def load() -> ChatSdk:
    """Import Anthropic's libraries, and return its SDK with the functions that the gateway needs."""
    import anthropic
    from langchain_anthropic import ChatAnthropic

    # Newer SDKs create OpenTelemetry spans and send the id of the caller's trace to the server; this disables both.
    untraced: dict[str, Any] = (
        {"open_telemetry": {"traces": {"enabled": False}, "propagation": False}}
        if "open_telemetry" in inspect.signature(anthropic.AsyncAnthropic).parameters
        else {}
    )

    class BoundedChatAnthropic(ChatAnthropic):
        """LangChain's ChatAnthropic, but with the HTTP client `bounded_http_client` and without tracing.

        It overrides the private `_async_client`, because ChatAnthropic has no parameters for these.
        """

        bounded_http_client: Any = Field(default=None, exclude=True, repr=False)

        @functools.cached_property
        def _async_client(self) -> anthropic.AsyncAnthropic:
            return anthropic.AsyncAnthropic(**self._client_params, **untraced, http_client=self.bounded_http_client)

    def make_model(options: Mapping[str, Any], client: Any) -> BaseChatModel:
        return BoundedChatAnthropic(**options, bounded_http_client=client)

    return ChatSdk(
        sdk=anthropic,
        base_error=anthropic.AnthropicError,
        make_model=make_model,
        client_of=lambda model: model._async_client,  # noqa: SLF001 the property overridden above
    )


PROVIDER: Final = Provider(
    package="langchain_anthropic",
    endpoint="https://api.anthropic.com",
    default_model="claude-3-5-haiku-latest",
    methods=(OutputMethod.FUNCTION_CALLING,),
    load=load,
)
