"""The facts about a provider of language models that the gateway needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relab.llm.models import OutputMethod

if TYPE_CHECKING:
    from relab.llm.chat import ChatBackend


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of language models. Other servers with the same protocol also count as this provider.

    Attributes:
        package: the Python package that implements the protocol; an optional dependency (extra) of relab installs it.
        endpoint: the provider's own URL.
        default_model: the model that is used if the settings name none.
        methods: the protocol's methods for requesting an answer as JSON; the first one is the default.
        load: a function that loads the package, which takes seconds, and returns the chat backend.
    """

    package: str
    endpoint: str
    default_model: str
    methods: tuple[OutputMethod, ...]
    load: Callable[[], ChatBackend]
