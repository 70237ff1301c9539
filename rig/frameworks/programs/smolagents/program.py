"""Tool-calling agents of smolagents, traced by OpenInference."""

from __future__ import annotations

from typing import Any

import shop
import tracing
from openinference.instrumentation import using_attributes
from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import OpenAIModel, ToolCallingAgent, tool

SmolagentsInstrumentor().instrument(tracer_provider=tracing.provider)


@tool
def order_lookup(order_id: str, customer_id: str) -> str:
    """Look up the state of an order.

    Args:
        order_id: the number of the order.
        customer_id: the number of the customer who ordered.
    """
    return shop.order_lookup(order_id, customer_id)


@tool
def stock_level(sku: str) -> str:
    """Count the pieces of an article that are in stock.

    Args:
        sku: the number of the article.
    """
    return shop.stock_level(sku)


@tool
def refund(order_id: str, amount_eur: float) -> str:
    """Refund a part of the price of an order.

    Args:
        order_id: the number of the order.
        amount_eur: how much, in euros.
    """
    return shop.refund(order_id, amount_eur)


def agent(name: str, *tools: Any, **options: Any) -> ToolCallingAgent:
    model = OpenAIModel(shop.MODELS[name], client_kwargs={"max_retries": 0}, retry=False)
    return ToolCallingAgent(
        list(tools), model, name=name, description="Answers questions about the shop.", max_steps=shop.STEP_LIMIT,
        stream_outputs=shop.CASE == "streamed", instructions=shop.INSTRUCTIONS, **options,
    )  # fmt: skip


def main() -> Any:
    with using_attributes(session_id=shop.SESSION_ID, user_id=shop.USER_ID):
        if shop.CASE == "hand_over":
            billing = agent("billing_desk", refund)
            return agent("front_desk", managed_agents=[billing]).run(shop.question())
        if shop.CASE == "two_agents":
            with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
                return {name: agent(name, order_lookup).run(asked) for name, asked in shop.QUESTIONS.items()}
        return agent("order_desk", order_lookup, stock_level).run(shop.question())


shop.run(main, tracing.flush)
