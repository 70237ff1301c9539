"""Agents of pydantic-ai, traced by its own instrumentation."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import openai
import shop
import tracing
from pydantic_ai import Agent, DeferredToolRequests, ModelRetry, RunContext, Tool, UsageLimits
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

client = openai.AsyncOpenAI(max_retries=0)
Agent.instrument_all(InstrumentationSettings(tracer_provider=tracing.provider))


def order_lookup(order_id: str, customer_id: str) -> str:
    """Look up the state of an order."""
    try:
        return shop.order_lookup(order_id, customer_id)
    except Exception as error:
        if shop.CASE == "raised_error":
            raise
        # How a tool of pydantic-ai reports an error to the model; any other exception ends the run.
        raise ModelRetry(f"{type(error).__name__}: {error}") from error


@dataclass
class Delivery:
    """The answer of the case `structured`."""

    order_id: str
    carrier: str
    days: int


def no_secrets(output: str) -> str:
    if "secret" in output:
        raise ModelRetry("no_secrets: the answer has a secret")
    return output


def agent(name: str, *tools: Any, **options: Any) -> Agent[None, Any]:
    model = OpenAIChatModel(shop.MODELS[name], provider=OpenAIProvider(openai_client=client))
    return Agent(
        model,
        name=name,
        instructions=shop.INSTRUCTIONS,
        tools=[Tool(tool) for tool in tools],
        **{"retries": 2, **options},
    )


async def ask_billing_desk(context: RunContext[None], task: str) -> str:
    """Ask the agent that can refund."""
    done = await agent("billing_desk", shop.refund).run(task, usage=context.usage)
    return done.output


async def ask(asked: Agent[None, Any], question: str) -> Any:
    limits = UsageLimits(request_limit=shop.STEP_LIMIT)
    if shop.CASE == "streamed":
        async with asked.run_stream(question, usage_limits=limits, conversation_id=shop.SESSION_ID) as streamed:
            return await streamed.get_output()
    done = await asked.run(question, usage_limits=limits, conversation_id=shop.SESSION_ID)
    return None if isinstance(done.output, DeferredToolRequests) else done.output


async def main() -> Any:
    if shop.CASE == "hand_over":
        return await ask(agent("front_desk", ask_billing_desk), shop.question())
    if shop.CASE == "two_agents":
        with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
            return {name: await ask(agent(name, order_lookup), question) for name, question in shop.QUESTIONS.items()}
    if shop.CASE == "structured":
        return json.dumps(asdict(await ask(agent("order_desk", order_lookup, output_type=Delivery), shop.question())))
    if shop.CASE == "guardrail":
        guarded = agent("order_desk", order_lookup, retries=1)
        guarded.output_validator(no_secrets)
        return await ask(guarded, shop.question())
    if shop.CASE.startswith("cancelled"):
        lookup = shop.slow_order_lookup if shop.CASE == "cancelled_tool" else order_lookup
        return await shop.cancelled(ask(agent("order_desk", lookup), shop.question()))
    if shop.CASE == "paused":
        asked = agent("order_desk", output_type=[str, DeferredToolRequests])
        asked.tool_plain(order_lookup, requires_approval=True)
    else:
        asked = agent("order_desk", order_lookup, shop.stock_level)
    return await ask(asked, shop.question())


shop.run(main, tracing.flush)
