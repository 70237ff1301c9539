"""Give the responders of an evaluation access to a language model, without writing the model's key to a file."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from relab.core.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from relab.settings import Settings
    from relab.testbed.scoring.service import ModelAccess

_NETWORK = (
    "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""The environment variables that the connection to the model needs.

A proxy's address may contain a password, so only the names are stored.
"""


def model_access(settings: Settings) -> ModelAccess:
    """Return the environment variables that give the responders of an evaluation access to the language model.

    The model's settings are returned with their values. The API keys, the model's address and the network's variables
    (such as proxies) may contain secrets. They are returned only as names, because the result is stored in files.

    The API keys and the address are also set in this process's environment, so that the responders inherit them.

    Raises:
        ConfigurationError: no model is configured, or its package is not installed.
    """
    from relab.testbed.scoring.service import ModelAccess

    _require_model(settings)
    keys = {name: key.get_secret_value() for name, key in _keys(settings)}
    # Settings may come from a file of this home, which the responder does not see.
    os.environ.update(keys)
    address = {} if settings.llm.base_url is None else {"RELAB_LLM__BASE_URL": settings.llm.base_url}
    os.environ.update(address)
    network = [name for name in _NETWORK if os.environ.get(name)]
    # The secrets only by name, because the evaluation stores this object in its files.
    return ModelAccess(environment=_environment(settings), passes=(*address, *network), secrets=tuple(keys))


def _require_model(settings: Settings) -> None:

    if not settings.has_model:
        raise ConfigurationError(
            "No language model is configured to measure with.",
            remedy="Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or RELAB_LLM__BASE_URL for a server of your own.",
        )
    if importlib.util.find_spec("langchain_core") is None:
        raise ConfigurationError(
            "A language model is configured, but its client is not installed.",
            remedy="pip install 'relab[llm]'",
        )


def _keys(settings: Settings) -> Iterator[tuple[str, SecretStr]]:
    for name, key in (
        ("RELAB_LLM__API_KEY", settings.llm.api_key),
        ("RELAB_OPENAI_API_KEY", settings.openai_api_key),
        ("RELAB_ANTHROPIC_API_KEY", settings.anthropic_api_key),
    ):
        if key is not None:
            yield name, key


def _environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables, without secrets, that configure the language model for responders.

    They name the model, its limits, and the cases in which a responder calls the model.
    """
    when = settings.incidents.ask_model
    incidents = settings.incidents.model_dump()
    found = {
        "RELAB_INCIDENTS__ASK_MODEL": "unsure" if when == "never" else when,
        **_named(
            "RELAB_INCIDENTS__", {name: value for name, value in incidents.items() if name.startswith("max_model_")}
        ),
        **_named("RELAB_LLM__", settings.llm.model_dump(exclude={"api_key", "base_url"}, exclude_none=True)),
    }
    if settings.llm_model is not None:
        found["RELAB_LLM_MODEL"] = settings.llm_model
    return found


def _named(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    return {f"{prefix}{name.upper()}": str(value) for name, value in values.items()}
