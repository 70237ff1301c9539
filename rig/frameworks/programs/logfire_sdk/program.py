"""A hand-written loop around OpenAI's client, traced by Logfire's SDK, which exports to a plain OTLP endpoint."""

from __future__ import annotations

import os
from typing import Any

import logfire
import loop
import openai
import shop

os.environ["OTEL_SERVICE_NAME"] = shop.SERVICE
logfire.configure(send_to_logfire=False, console=False, inspect_arguments=False, service_version="1.4.0")
client = openai.OpenAI(max_retries=0)
logfire.instrument_openai(client)


def traced(name: str) -> Any:
    return logfire.instrument(name, span_name=name, extract_args=True, record_return=True)(getattr(shop, name))


LOOKING_UP = {name: traced(name) for name in ("order_lookup", "stock_level")}


@logfire.instrument("ask {agent}", extract_args=True, record_return=True)
def ask(agent: str, question: str, tools: Any) -> str:
    return loop.answer(client, agent, question, tools)


def ask_billing_desk(task: str) -> str:
    return ask("billing_desk", task, {"refund": traced("refund")})


def main() -> Any:
    with logfire.set_baggage(session_id=shop.SESSION_ID, user_id=shop.USER_ID), logfire.span("POST /ask"):
        if shop.CASE == "hand_over":
            return ask("front_desk", shop.question(), {"ask_billing_desk": ask_billing_desk})
        if shop.CASE == "two_agents":
            return {name: ask(name, asked, LOOKING_UP) for name, asked in shop.QUESTIONS.items()}
        return ask("order_desk", shop.question(), LOOKING_UP)


shop.run(main, logfire.force_flush)
