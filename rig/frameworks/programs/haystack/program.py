"""Agents of Haystack, traced by OpenInference."""

from __future__ import annotations

import os
from typing import Any

os.environ["HAYSTACK_CONTENT_TRACING_ENABLED"] = "true"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

import shop
import tracing
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from openinference.instrumentation import using_attributes
from openinference.instrumentation.haystack import HaystackInstrumentor

HaystackInstrumentor().instrument(tracer_provider=tracing.provider)


def order_lookup(order_id: str, customer_id: str) -> str:
    """Look up the state of an order."""
    return shop.order_lookup(order_id, customer_id)


def stock_level(sku: str) -> str:
    """Count the pieces of an article that are in stock."""
    return shop.stock_level(sku)


def refund(order_id: str, amount_eur: float) -> str:
    """Refund a part of the price of an order."""
    return shop.refund(order_id, amount_eur)


def ask_billing_desk(task: str) -> str:
    """Ask the agent that can refund."""
    return ask(agent("billing_desk", refund), task)


def agent(name: str, *tools: Any) -> Agent:
    return Agent(
        chat_generator=OpenAIChatGenerator(model=shop.MODELS[name], max_retries=0),
        tools=[create_tool_from_function(tool) for tool in tools],
        system_prompt=shop.INSTRUCTIONS,
        max_agent_steps=shop.STEP_LIMIT,
        streaming_callback=(lambda _: None) if shop.CASE == "streamed" else None,
        raise_on_tool_invocation_failure=shop.CASE == "raised_error",
    )


def ask(asked: Agent, question: str) -> str:
    done = asked.run(messages=[ChatMessage.from_user(question)])
    return done["last_message"].text


def main() -> Any:
    with using_attributes(session_id=shop.SESSION_ID, user_id=shop.USER_ID):
        if shop.CASE == "hand_over":
            return ask(agent("front_desk", ask_billing_desk), shop.question())
        if shop.CASE == "two_agents":
            with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
                return {name: ask(agent(name, order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
        return ask(agent("order_desk", order_lookup, stock_level), shop.question())


shop.run(main, tracing.flush)
