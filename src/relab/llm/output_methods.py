"""The advice in an error message to try another output method (way to request JSON) of the provider's protocol."""

from __future__ import annotations

from relab.llm.config import LlmConfig
from relab.llm.providers import PROVIDERS


def other_methods(config: LlmConfig) -> str | None:
    """Return the advice for a server that ignores or rejects the configured output method (the way to request JSON).

    Such a server answers with prose or with status 400, 422 or 500. Return None if the protocol has only one method.
    """
    others = [method for method in PROVIDERS[config.provider].methods if method is not config.method]
    if not others:
        return None
    return f"If the server does not know {config.method}, set RELAB_LLM__OUTPUT_METHOD to {' or '.join(others)}."
