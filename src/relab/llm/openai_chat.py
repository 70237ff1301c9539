"""The chat model of OpenAI, and of every server with a compatible protocol."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import openai
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models.base import BaseChatOpenAI

from relab.llm.chat import ChatBackend, model_options
from relab.llm.models import LlmConfig


def _make_model(config: LlmConfig, client: Any) -> BaseChatModel:
    # ChatOpenAI sends `max_completion_tokens`, which only OpenAI's own servers require;
    # its base class sends `max_tokens`, which every compatible server supports.
    host = urlsplit(config.endpoint).hostname or ""
    own = host.endswith((".openai.com", ".openai.azure.com"))
    model_class = ChatOpenAI if own else BaseChatOpenAI
    return model_class(**model_options(config), openai_proxy=None, http_async_client=client, use_responses_api=False)


BACKEND = ChatBackend(sdk=openai, base_error=openai.OpenAIError, make_model=_make_model)
