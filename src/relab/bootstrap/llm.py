"""Builds the gateway to a language model from the settings."""

from __future__ import annotations

from pydantic import ValidationError

from relab.core.errors import ConfigurationError
from relab.core.logging import get_logger
from relab.core.validation import problems_of
from relab.llm import (
    DEFAULT_PROVIDER,
    PROVIDERS,
    Budget,
    BudgetLimits,
    LangChainGateway,
    LlmConfig,
    LlmGateway,
    LlmNotConfiguredError,
    NullGateway,
    OutputMethod,
)
from relab.settings import Settings

_log = get_logger(__name__)
_HOUR_S = 3_600.0
_BUDGET_REMEDY = "Wait for up to an hour, or raise RELAB_LLM__MAX_CALLS_PER_HOUR or RELAB_LLM__MAX_TOKENS_PER_HOUR."


def build_gateway(settings: Settings) -> LlmGateway:
    """Return the gateway to the language model that the settings describe.

    Returns:
        A `NullGateway`, which has no model, if the settings have neither an API key nor a base URL. If the Python
        package of the provider is not installed: a `NullGateway` too, and a warning is logged. Otherwise a
        `LangChainGateway`.

    Raises:
        ConfigurationError: the name of the provider is unknown, or another setting of the model is not valid.
    """
    llm = settings.llm
    check_provider(settings)
    if not settings.has_model:
        return NullGateway()
    name = _provider(settings)
    try:
        config = LlmConfig(
            provider=name,
            model=llm.model or settings.llm_model or PROVIDERS[name].default_model,
            api_key=llm.api_key or settings.provider_keys.get(name),
            base_url=llm.base_url,
            output_method=None if llm.output_method is None else OutputMethod(llm.output_method),
            temperature=None if llm.temperature == "default" else llm.temperature,
            timeout_s=llm.timeout_s,
            max_completion_tokens=llm.max_completion_tokens,
        )
    except ValidationError as error:
        problems = "; ".join(": ".join(problem) for problem in problems_of(error, root="the model"))
        raise ConfigurationError(
            f"The settings of the language model are not valid: {problems}.",
            remedy="Correct the RELAB_LLM__ settings; see .env.example.",
        ) from error
    limits = BudgetLimits(
        max_calls=llm.max_calls_per_hour,
        max_prompt_tokens=llm.max_tokens_per_hour,
        prompt_usd_per_million=llm.prompt_usd_per_million,
        completion_usd_per_million=llm.completion_usd_per_million,
        window_s=_HOUR_S,
    )
    try:
        return LangChainGateway(config, budget=Budget(limits, remedy=_BUDGET_REMEDY))
    except LlmNotConfiguredError as error:
        # No error, because many environments contain keys by chance; `lab doctor` reports the missing package.
        _log.warning("llm_not_configured", error=str(error))
        return NullGateway()


def check_provider(settings: Settings) -> None:
    """Check the name of the provider in the settings.

    Raises:
        ConfigurationError: no provider has this name.
    """
    name = settings.llm.provider
    if name != "auto" and name not in PROVIDERS:
        raise ConfigurationError(
            f"RELAB_LLM__PROVIDER is {name!r}, which is not a provider of language models.",
            remedy=f"Set it to auto, {', '.join(PROVIDERS)}.",
        )


def _provider(settings: Settings) -> str:
    """Return the name of the language model provider to use.

    If the setting `provider` is not `auto`, it names the provider. With `auto`, the default provider is used if the
    settings have its key, a key without a provider, or a base URL; otherwise the first provider with a key is used.
    """
    llm, keys = settings.llm, settings.provider_keys
    if llm.provider != "auto":
        return llm.provider
    has_default = llm.api_key is not None or llm.base_url is not None or DEFAULT_PROVIDER in keys
    return DEFAULT_PROVIDER if has_default else next(iter(keys))
