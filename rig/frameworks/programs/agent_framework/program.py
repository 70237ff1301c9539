"""Agents of Microsoft's Agent Framework, traced by its own instrumentation."""

from __future__ import annotations

import os
from typing import Any

import openai
import shop
import tracing
from agent_framework import Agent, tool
from agent_framework.observability import enable_instrumentation
from agent_framework.openai import OpenAIChatCompletionClient

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
enable_instrumentation(enable_sensitive_data=True)


def agent(name: str, *tools: Any) -> Agent:
    model = OpenAIChatCompletionClient(model=shop.MODELS[name], async_client=openai.AsyncOpenAI(max_retries=0))
    model.function_invocation_configuration["max_iterations"] = shop.STEP_LIMIT
    return Agent(client=model, name=name, instructions=shop.INSTRUCTIONS, tools=list(tools))


async def ask_billing_desk(task: str) -> str | None:
    """Ask the agent that can refund."""
    return await ask(agent("billing_desk", shop.refund), task)


async def ask(asked: Agent, question: str) -> str | None:
    if shop.CASE == "streamed":
        return "".join([part.text async for part in asked.run(question, stream=True)])
    text = (await asked.run(question)).text
    # At its limit, the framework returns a notice in place of the model's answer.
    return None if text.startswith("Function invocation limit reached") else text


async def main() -> Any:
    if shop.CASE == "hand_over":
        return await ask(agent("front_desk", ask_billing_desk), shop.question())
    if shop.CASE == "two_agents":
        with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
            return {name: await ask(agent(name, shop.order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
    if shop.CASE == "paused":
        careful = tool(approval_mode="always_require")(shop.order_lookup)
        paused = await agent("order_desk", careful).run(shop.question())
        return None if paused.user_input_requests else paused.text
    if shop.CASE.startswith("cancelled"):
        lookup = shop.slow_order_lookup if shop.CASE == "cancelled_tool" else shop.order_lookup
        return await shop.cancelled(ask(agent("order_desk", lookup), shop.question()))
    return await ask(agent("order_desk", shop.order_lookup, shop.stock_level), shop.question())


shop.run(main, tracing.flush)
