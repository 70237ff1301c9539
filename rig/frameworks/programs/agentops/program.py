"""A hand-written loop around OpenAI's client, traced by AgentOps' SDK: decorators name trace, agents and tools."""

from __future__ import annotations

import os
from typing import Any

import agentops
import loop
import openai
import shop
from agentops.sdk.decorators import agent, tool, trace
from opentelemetry.trace import get_tracer_provider

agentops.init(
    api_key="0f0f0f0f-0000-4000-8000-000000000000",
    endpoint="http://127.0.0.1:9",  # no server listens there, so the SDK gets no token and exports without one
    exporter_endpoint=f"{os.environ['OTEL_EXPORTER_OTLP_ENDPOINT']}/v1/traces",
    auto_start_session=False,
)
client = openai.OpenAI(max_retries=0)


@tool(name="order_lookup")
def order_lookup(order_id: str, customer_id: str) -> str:
    return shop.order_lookup(order_id, customer_id)


@tool(name="stock_level")
def stock_level(sku: str) -> str:
    return shop.stock_level(sku)


@tool(name="refund")
def refund(order_id: str, amount_eur: float) -> str:
    return shop.refund(order_id, amount_eur)


@tool(name="ask_billing_desk")
def ask_billing_desk(task: str) -> str:
    return answer("billing_desk", task, {"refund": refund})


LOOKING_UP = {"order_lookup": order_lookup, "stock_level": stock_level}


def answer(name: str, question: str, tools: dict[str, Any]) -> str:
    @agent(name=name)
    def acting(question: str) -> str:
        return loop.answer(client, name, question, tools)

    return acting(question)


@trace(name="answer_customer")
def main() -> Any:
    if shop.CASE == "hand_over":
        return answer("front_desk", shop.question(), {"ask_billing_desk": ask_billing_desk})
    if shop.CASE == "two_agents":
        return {name: answer(name, asked, LOOKING_UP) for name, asked in shop.QUESTIONS.items()}
    return answer("order_desk", shop.question(), LOOKING_UP)


shop.run(main, lambda: get_tracer_provider().force_flush())
