"""The gateway to a language model, built from the settings."""

from __future__ import annotations

import structlog

from relab.core.clock import Clock
from relab.llm import (
    Budget,
    BudgetLimits,
    LangChainGateway,
    LlmConfig,
    LlmGateway,
    LlmNotConfiguredError,
    NullGateway,
    OutputMethod,
    Provider,
)
from relab.settings import Settings

DEFAULT_MODELS = {Provider.OPENAI: "gpt-4o-mini", Provider.ANTHROPIC: "claude-3-5-haiku-latest"}

_log = structlog.get_logger(__name__)
_HOUR_S = 3_600.0


def build_gateway(settings: Settings, clock: Clock) -> LlmGateway:
    """Return the model gateway that the settings describe; without an API key or a base URL, a `NullGateway`.

    If a key is set but the extra is not installed, log a warning and return a `NullGateway`: many
    environments contain keys by chance, and every report is complete without a model. `lab doctor`
    reports what is missing.
    """
    llm = settings.llm
    if settings.openai_api_key is None and settings.anthropic_api_key is None and llm.base_url is None:
        return NullGateway()
    provider = Provider.OPENAI
    if llm.provider == "anthropic" or (llm.provider == "auto" and settings.openai_api_key is None and not llm.base_url):
        provider = Provider.ANTHROPIC
    key = settings.openai_api_key if provider is Provider.OPENAI else settings.anthropic_api_key
    config = LlmConfig(
        provider=provider,
        model=llm.model or settings.llm_model or DEFAULT_MODELS[provider],
        api_key=key,
        base_url=llm.base_url,
        output_method=None if llm.output_method is None else OutputMethod(llm.output_method),
        temperature=None if llm.temperature == "default" else llm.temperature,
        timeout_s=llm.timeout_s,
    )
    limits = BudgetLimits(
        max_calls=llm.max_calls_per_hour,
        max_prompt_tokens=llm.max_tokens_per_hour,
        prompt_usd_per_million=llm.prompt_usd_per_million,
        completion_usd_per_million=llm.completion_usd_per_million,
        window_s=_HOUR_S,
    )
    try:
        return LangChainGateway(config, budget=Budget(limits, clock=clock))
    except LlmNotConfiguredError as error:
        _log.warning("llm_not_configured", error=str(error))
        return NullGateway()
