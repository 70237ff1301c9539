"""The provider OpenAI, for OpenAI's servers and every server with a compatible protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from relab.llm.models import OutputMethod
from relab.llm.provider import ChatSdk, Provider

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


def load() -> ChatSdk:
    """Import OpenAI's libraries, and return its SDK with the functions that the gateway needs."""
    import openai
    from langchain_openai import ChatOpenAI
    from langchain_openai.chat_models.base import BaseChatOpenAI

    def make_model(options: Mapping[str, Any], client: Any) -> BaseChatModel:
        # ChatOpenAI sends `max_completion_tokens`, which only OpenAI's own servers require;
        # its base class sends `max_tokens`, which every compatible server supports.
        host = urlsplit(options["base_url"]).hostname or ""
        own = host.endswith((".openai.com", ".openai.azure.com"))
        model_class = ChatOpenAI if own else BaseChatOpenAI
        return model_class(**options, openai_proxy=None, http_async_client=client, use_responses_api=False)

    return ChatSdk(
        sdk=openai,
        base_error=openai.OpenAIError,
        make_model=make_model,
        client_of=lambda model: model.root_async_client,
    )


PROVIDER: Final = Provider(
    package="langchain_openai",
    endpoint="https://api.openai.com/v1",
    default_model="gpt-4o-mini",
    methods=(OutputMethod.JSON_SCHEMA, OutputMethod.JSON_MODE, OutputMethod.FUNCTION_CALLING),
    load=load,
)
