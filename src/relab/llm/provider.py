"""What the gateway must know of a provider of language models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relab.llm.models import OutputMethod

if TYPE_CHECKING:
    from relab.llm.chat import ChatBackend


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider of language models, or any server with its wire protocol.

    Attributes:
        package: the Python package that speaks the protocol; it is part of an extra.
        endpoint: the provider's own URL.
        default_model: the model that is used if the settings name none.
        methods: the methods to request JSON that the protocol has; the first one is the default.
        load: loads the package, which takes seconds, and returns the chat backend.
    """

    package: str
    endpoint: str
    default_model: str
    methods: tuple[OutputMethod, ...]
    load: Callable[[], ChatBackend]
