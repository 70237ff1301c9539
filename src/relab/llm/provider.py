"""The facts about a provider of language models that the gateway needs, and the provider-specific part of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from relab.llm.models import OutputMethod

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


@dataclass(frozen=True, slots=True)
class ChatSdk:
    """The part of a call to a language model that differs between providers: their SDK and their chat model.

    Attributes:
        sdk: the module of the provider's SDK; every SDK has `APIStatusError`, `APIConnectionError` and
            `DefaultAsyncHttpxClient`.
        base_error: the base class of the SDK's exceptions.
        make_model: a function that returns the chat model for the options that all providers have in common
            (`chat.model_options`) and an HTTP client.
        client_of: a function that returns the SDK's client of a chat model.
    """

    sdk: ModuleType
    base_error: type[Exception]
    make_model: Callable[[Mapping[str, Any], Any], BaseChatModel]
    client_of: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of language models. Other servers with the same protocol also count as this provider.

    Attributes:
        package: the Python package that implements the protocol; an optional dependency (extra) of relab installs it.
        endpoint: the provider's own URL.
        default_model: the model that is used if the settings name none.
        methods: the protocol's methods for requesting an answer as JSON; the first one is the default.
        load: a function that loads the package, which takes seconds, and returns the provider-specific part of calls.
    """

    package: str
    endpoint: str
    default_model: str
    methods: tuple[OutputMethod, ...]
    load: Callable[[], ChatSdk]
