"""Token counts of each dialect: cached tokens are part of the prompt, and reasoning tokens of the completion."""

from __future__ import annotations

import json
from typing import Any

import pytest

from relab.telemetry.cost_models import Cost
from unit.telemetry.otlp.builders import AGENT, CHAT, run_of, span

LLM = {"openinference.span.kind": "LLM", "llm.model_name": "gpt-4o"}
VERCEL = {"ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "m", "ai.usage.outputTokens": 50}
LANGFUSE = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "m"}
MLFLOW = {"mlflow.spanType": '"CHAT_MODEL"', "mlflow.llm.model": '"m"'}

# Every span reports the same call: 1,000 prompt tokens, of which 600 were read from the cache and 100 written to it, and
# 50 completion tokens, of which 20 are reasoning. A dialect that has no name for a kind leaves it out.
ALL = (1_000, 600, 100, 50, 20)
SPANS: dict[str, tuple[dict[str, Any], tuple[int | None, ...]]] = {
    "OpenTelemetry": (
        CHAT
        | {
            "gen_ai.usage.input_tokens": 1_000,
            "gen_ai.usage.cache_read.input_tokens": 600,
            "gen_ai.usage.cache_creation.input_tokens": 100,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.reasoning.output_tokens": 20,
        },
        ALL,
    ),
    "OpenLLMetry": (
        CHAT
        | {
            "gen_ai.usage.prompt_tokens": 1_000,
            "gen_ai.usage.cache_read_input_tokens": 600,
            "gen_ai.usage.cache_creation_input_tokens": 100,
            "gen_ai.usage.completion_tokens": 50,
            "gen_ai.usage.reasoning_tokens": 20,
        },
        ALL,
    ),
    "counts of Anthropic as they are, more of the cache than of the input": (
        CHAT
        | {
            "gen_ai.usage.input_tokens": 300,
            "gen_ai.usage.cache_read_input_tokens": 600,
            "gen_ai.usage.cache_creation_input_tokens": 100,
            "gen_ai.usage.output_tokens": 50,
        },
        (1_000, 600, 100, 50, None),
    ),
    "OpenInference": (
        LLM
        | {
            "llm.token_count.prompt": 1_000,
            "llm.token_count.prompt_details.cache_read": 600,
            "llm.token_count.prompt_details.cache_write": 100,
            "llm.token_count.completion": 50,
            "llm.token_count.completion_details.reasoning": 20,
        },
        ALL,
    ),
    "pydantic-ai": (
        CHAT
        | {
            "gen_ai.usage.input_tokens": 1_000,
            "gen_ai.usage.details.cache_read_tokens": 600,
            "gen_ai.usage.details.cache_write_tokens": 100,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.details.reasoning_tokens": 20,
        },
        ALL,
    ),
    "Vercel 5, OpenAI": (
        VERCEL | {"ai.model.provider": "openai.chat", "ai.usage.inputTokens": 1_000, "ai.usage.cachedInputTokens": 600},
        (1_000, 600, None, 50, None),
    ),
    "Vercel 5, Anthropic leaves the cache out": (
        VERCEL
        | {"ai.model.provider": "anthropic.messages", "ai.usage.inputTokens": 400, "ai.usage.cachedInputTokens": 300},
        (700, 300, None, 50, None),
    ),
    "Vercel 6, Anthropic": (
        VERCEL
        | {
            "ai.model.provider": "anthropic.messages",
            "ai.usage.inputTokens": 1_000,
            "ai.usage.cachedInputTokens": 600,
            "ai.usage.inputTokenDetails.cacheReadTokens": 600,
            "ai.usage.inputTokenDetails.cacheWriteTokens": 100,
            "ai.usage.reasoningTokens": 20,
        },
        ALL,
    ),
    "Google ADK leaves out what was thought": (
        {
            "gcp.vertex.agent.llm_request": '{"model": "gemini-x"}',
            "gcp.vertex.agent.llm_response": json.dumps(
                {
                    "usage_metadata": {
                        "prompt_token_count": 1_000,
                        "cached_content_token_count": 600,
                        "candidates_token_count": 30,
                        "thoughts_token_count": 20,
                    }
                }
            ),
            "gen_ai.usage.output_tokens": 30,
        },
        (1_000, 600, None, 50, 20),
    ),
    "Langfuse: kinds exclude each other": (
        LANGFUSE
        | {
            "langfuse.observation.usage_details": json.dumps(
                {
                    "input": 300,
                    "input_cached_tokens": 600,
                    "cache_creation_input_tokens": 100,
                    "output": 30,
                    "output_reasoning_tokens": 20,
                }
            )
        },
        ALL,
    ),
    "Langfuse's wrapper of OpenAI's client": (
        LANGFUSE
        | {
            "langfuse.observation.usage_details": json.dumps(
                {
                    "prompt_tokens": 1_000,
                    "completion_tokens": 50,
                    "total_tokens": 1_050,
                    "prompt_tokens_details": {"cached_tokens": 600},
                    "completion_tokens_details": {"reasoning_tokens": 20},
                }
            )
        },
        (1_000, 600, None, 50, 20),
    ),
    "Braintrust": (
        {
            "braintrust.span_attributes": '{"type": "llm"}',
            "braintrust.metadata": '{"model": "m"}',
            "braintrust.metrics": json.dumps(
                {
                    "prompt_tokens": 1_000,
                    "prompt_cached_tokens": 600,
                    "prompt_cache_creation_tokens": 100,
                    "completion_tokens": 50,
                    "completion_reasoning_tokens": 20,
                }
            ),
        },
        ALL,
    ),
    "LangSmith": (
        {
            "langsmith.span.kind": "llm",
            "gen_ai.usage.input_tokens": 1_000,
            "gen_ai.usage.input_token_details": '{"cache_read": 600, "cache_creation": 100}',
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.usage.output_token_details": '{"reasoning": 20}',
        },
        ALL,
    ),
    "MLflow": (
        MLFLOW
        | {
            "mlflow.chat.tokenUsage": json.dumps(
                {"input_tokens": 1_000, "output_tokens": 50, "cache_read_input_tokens": 600}
            )
        },
        (1_000, 600, None, 50, None),
    ),
}


def counts(cost: Cost | None) -> tuple[int | None, ...]:
    assert cost is not None
    return (
        cost.tokens_prompt, cost.tokens_cached, cost.tokens_cache_write, cost.tokens_completion, cost.tokens_reasoning
    )  # fmt: skip


@pytest.mark.parametrize("name", SPANS)
def test_tokens_of_a_dialect_are_counted_as_opentelemetry_does(name: str) -> None:
    attributes, expected = SPANS[name]
    run = run_of(span("root", None, AGENT), span("model", "root", attributes, title="call_llm"))

    assert counts(run.cost) == expected
    [step] = run.steps
    shown = step.model_extra or {}
    kinds = ("tokens_prompt", "tokens_cached", "tokens_cache_write", "tokens_completion", "tokens_reasoning")
    assert tuple(shown.get(kind) for kind in kinds) == expected


def test_tokens_are_counted_for_each_model() -> None:
    first = CHAT | {"gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    other = first | {"gen_ai.request.model": "gpt-y", "gen_ai.usage.cache_read.input_tokens": 5}
    run = run_of(
        span("root", None, AGENT), span("a", "root", first), span("b", "root", first), span("c", "root", other)
    )

    assert run.cost is not None
    assert run.cost.by_model is not None
    assert [(usage.provider, usage.model, usage.tokens_prompt) for usage in run.cost.by_model] == [
        ("openai", "gpt-x", 20),
        ("openai", "gpt-y", 10),
    ]
    assert run.cost.by_model[1].tokens_cached == 5


def test_calls_without_tokens_or_cost_are_counted() -> None:
    paid = CHAT | {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1, "gen_ai.usage.cost": 0.5}
    free = CHAT | {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    run = run_of(span("root", None, AGENT), span("a", "root", paid), span("b", "root", free), span("c", "root", CHAT))

    assert run.cost is not None
    assert run.cost.total_cost_usd == 0.5
    assert run.cost.calls_without_cost == 2
    assert run.cost.calls_without_tokens == 1


def test_model_that_answered_is_billed() -> None:
    attributes = CHAT | {"gen_ai.response.model": "gpt-4o-2024-05-13", "gen_ai.system": "openai"}
    run = run_of(span("root", None, AGENT), span("a", "root", attributes | {"gen_ai.usage.input_tokens": 1}))

    assert run.cost is not None
    assert run.cost.by_model is not None
    assert run.cost.by_model[0].model == "gpt-4o-2024-05-13"
    assert run.cost.by_model[0].provider == "openai"
