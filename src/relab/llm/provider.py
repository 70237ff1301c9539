"""Describe a provider of language models: its package, URL, default model and SDK. The gateway uses these classes."""

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
    """The SDK of a provider of language models, and the functions that the gateway needs to call a model with it.

    Attributes:
        sdk: the module of the provider's SDK; every SDK has `APIStatusError`, `APIConnectionError` and
            `DefaultAsyncHttpxClient`.
        base_error: the base class of the SDK's exceptions.
        make_model: a function that returns LangChain's chat model. Its arguments are the model's options, which are the
            same for all providers (`chat.model_options`), and an HTTP client.
        client_of: a function that takes a chat model, and returns the client of the SDK that this model uses.
    """

    sdk: ModuleType
    base_error: type[Exception]
    make_model: Callable[[Mapping[str, Any], Any], BaseChatModel]
    client_of: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of language models. It also stands for every other server with the same protocol.

    Attributes:
        package: the Python package that implements the protocol; an optional dependency (extra) of relab installs it.
        endpoint: the provider's own URL.
        default_model: the model that is used if the settings name none.
        methods: the protocol's methods for requesting an answer as JSON; the first one is the default.
        load: a function that imports the package, which takes seconds, and returns the provider's `ChatSdk`.
    """

    package: str
    endpoint: str
    default_model: str
    methods: tuple[OutputMethod, ...]
    load: Callable[[], ChatSdk]
