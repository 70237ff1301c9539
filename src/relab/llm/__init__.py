"""The gateway to language models. Its use is optional, a budget limits the calls, and all answers are validated.

Importing this package loads no package of the extra `[llm]`; the first call of a real model does.
"""

from __future__ import annotations

from relab.llm.background import complete_in_background
from relab.llm.budget import Budget, BudgetLimits, Spent
from relab.llm.config import DEFAULT_PROVIDER, LlmConfig
from relab.llm.errors import (
    LlmBudgetExceededError,
    LlmDisabledError,
    LlmError,
    LlmInvalidOutputError,
    LlmNotConfiguredError,
    LlmRefusedError,
    LlmTooSlowError,
    LlmUnavailableError,
)
from relab.llm.gateway import Billed, LlmGateway, NullGateway
from relab.llm.langchain_gateway import LangChainGateway
from relab.llm.metered import MeteredGateway
from relab.llm.models import OutputMethod, Prompt, TokenUsage
from relab.llm.prompt_files import prompt_text
from relab.llm.provider import Provider
from relab.llm.providers import PROVIDERS
from relab.llm.scripted import ScriptedGateway, ScriptExhaustedError

__all__ = [
    "DEFAULT_PROVIDER",
    "PROVIDERS",
    "Billed",
    "Budget",
    "BudgetLimits",
    "LangChainGateway",
    "LlmBudgetExceededError",
    "LlmConfig",
    "LlmDisabledError",
    "LlmError",
    "LlmGateway",
    "LlmInvalidOutputError",
    "LlmNotConfiguredError",
    "LlmRefusedError",
    "LlmTooSlowError",
    "LlmUnavailableError",
    "MeteredGateway",
    "NullGateway",
    "OutputMethod",
    "Prompt",
    "Provider",
    "ScriptExhaustedError",
    "ScriptedGateway",
    "Spent",
    "TokenUsage",
    "complete_in_background",
    "prompt_text",
]
