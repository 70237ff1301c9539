"""Assistant agents of AutoGen's AgentChat, traced by its own instrumentation."""

from __future__ import annotations

from typing import Any

import shop
import tracing
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import TextMessageTermination
from autogen_agentchat.messages import TextMessage
from autogen_agentchat.teams import Swarm
from autogen_core.models import ModelFamily
from autogen_ext.models.openai import OpenAIChatCompletionClient

INFO = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "family": ModelFamily.GPT_4O,
    "structured_output": False,
}


def agent(name: str, *tools: Any, **options: Any) -> AssistantAgent:
    client = OpenAIChatCompletionClient(model=shop.MODELS[name], max_retries=0, model_info=INFO)
    return AssistantAgent(
        name,
        client,
        tools=list(tools),
        system_message=shop.INSTRUCTIONS,
        model_client_stream=shop.CASE == "streamed",
        max_tool_iterations=shop.STEP_LIMIT,
        **options,
    )


async def ask(asked: Any, question: str) -> str | None:
    done = await asked.run(task=question)
    last = done.messages[-1]
    return last.content if isinstance(last, TextMessage) else None


async def main() -> Any:
    # Without a common parent span, each message between the agents of a team would be a separate trace.
    with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
        if shop.CASE == "hand_over":
            front = agent("front_desk", handoffs=["billing_desk"])
            ends = TextMessageTermination("billing_desk")
            return await ask(
                Swarm([front, agent("billing_desk", shop.refund)], termination_condition=ends), shop.question()
            )
        if shop.CASE == "two_agents":
            return {name: await ask(agent(name, shop.order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
        return await ask(agent("order_desk", shop.order_lookup, shop.stock_level), shop.question())


shop.run(main, tracing.flush)
