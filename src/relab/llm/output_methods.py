"""Advise in error messages to set another output method. An output method is a way to request JSON from a model."""

from __future__ import annotations

from relab.llm.config import LlmConfig
from relab.llm.providers import PROVIDERS


def other_methods(config: LlmConfig) -> str | None:
    """Return the advice to set another output method (way to request JSON), with the names of the other methods.

    It is for servers that do not support the configured method. Return None if the protocol has no other method.
    """
    others = [method for method in PROVIDERS[config.provider].methods if method is not config.method]
    if not others:
        return None
    return f"If the server does not know {config.method}, set RELAB_LLM__OUTPUT_METHOD to {' or '.join(others)}."
