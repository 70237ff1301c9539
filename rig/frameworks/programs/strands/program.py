"""Agents of AWS Strands, traced by its own instrumentation."""

from __future__ import annotations

import asyncio
from typing import Any

import shop
import tracing
from strands import Agent, tool
from strands.models.openai import OpenAIModel

order_lookup = tool(shop.order_lookup)
stock_level = tool(shop.stock_level)
refund = tool(shop.refund)


@tool
def ask_billing_desk(task: str) -> str | None:
    """Ask the agent that can refund.

    Args:
        task: what to do.
    """
    return ask(agent("billing_desk", refund), task)


def agent(name: str, *tools: Any) -> Agent:
    model = OpenAIModel(client_args={"max_retries": 0}, model_id=shop.MODELS[name])
    return Agent(
        name=name, model=model, tools=list(tools), system_prompt=shop.INSTRUCTIONS, callback_handler=None, retry_strategy=None,
        trace_attributes={"session.id": shop.SESSION_ID, "user.id": shop.USER_ID},
    )  # fmt: skip


def ask(asked: Agent, question: str) -> str | None:
    if shop.CASE == "streamed":
        return asyncio.run(streamed(asked, question))
    return str(asked(question, limits={"turns": shop.STEP_LIMIT})).strip() or None


async def streamed(asked: Agent, question: str) -> str | None:
    result = None
    async for event in asked.stream_async(question):
        result = event.get("result", result)
    return str(result).strip() or None


def main() -> Any:
    if shop.CASE == "hand_over":
        return ask(agent("front_desk", ask_billing_desk), shop.question())
    if shop.CASE == "two_agents":
        with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
            return {name: ask(agent(name, order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
    return ask(agent("order_desk", order_lookup, stock_level), shop.question())


shop.run(main, tracing.flush)
