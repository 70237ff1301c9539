"""A hand-written loop around LiteLLM, traced by LiteLLM's OpenTelemetry callback inside the program's own spans."""

from __future__ import annotations

from typing import Any

import litellm
import loop
import shop
import tracing
from litellm.integrations.opentelemetry import OpenTelemetry

litellm.callbacks = [OpenTelemetry(tracer_provider=tracing.provider)]
litellm.num_retries = 0

LOOKING_UP = {"order_lookup": shop.order_lookup, "stock_level": shop.stock_level}


def call_model(_client: Any, agent: str, messages: list[dict[str, Any]], tools: Any) -> Any:
    described = [loop.schema(tool) for tool in tools]
    return litellm.completion(
        model=f"openai/{shop.MODELS[agent]}",
        messages=messages,
        tools=described,
        max_retries=0,
        metadata={"session_id": shop.SESSION_ID, "user_id": shop.USER_ID},
    )


def ask(agent: str, question: str, tools: Any) -> str:
    return loop.answer(None, agent, question, tools, call_model)


def ask_billing_desk(task: str) -> str:
    return ask("billing_desk", task, {"refund": shop.refund})


def main() -> Any:
    with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
        if shop.CASE == "hand_over":
            return ask("front_desk", shop.question(), {"ask_billing_desk": ask_billing_desk})
        if shop.CASE == "two_agents":
            return {name: ask(name, asked, LOOKING_UP) for name, asked in shop.QUESTIONS.items()}
        return ask("order_desk", shop.question(), LOOKING_UP)


def flush() -> None:
    # LiteLLM runs its callbacks in separate threads.
    litellm.utils.executor.shutdown(wait=True)
    tracing.flush()


shop.run(main, flush)
