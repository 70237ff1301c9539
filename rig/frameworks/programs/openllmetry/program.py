"""A hand-written loop around OpenAI's client, traced by OpenLLMetry: decorators name workflow, agent and tools."""

from __future__ import annotations

from typing import Any

import loop
import openai
import shop
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import agent, tool, workflow

Traceloop.init(
    app_name=shop.SERVICE, exporter=OTLPSpanExporter(), disable_batch=True, telemetry_enabled=False,
    resource_attributes={"service.version": "1.4.0", "deployment.environment.name": "test"},
)  # fmt: skip
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


@workflow(name="answer_customer")
def main() -> Any:
    Traceloop.set_association_properties({"session_id": shop.SESSION_ID, "user_id": shop.USER_ID})
    if shop.CASE == "hand_over":
        return answer("front_desk", shop.question(), {"ask_billing_desk": ask_billing_desk})
    if shop.CASE == "two_agents":
        return {name: answer(name, asked, LOOKING_UP) for name, asked in shop.QUESTIONS.items()}
    return answer("order_desk", shop.question(), LOOKING_UP)


shop.run(main, lambda: None)
