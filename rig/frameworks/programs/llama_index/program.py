"""Function agents of LlamaIndex, traced by OpenInference."""

from __future__ import annotations

from typing import Any

import shop
import tracing
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from openinference.instrumentation import using_attributes
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

LlamaIndexInstrumentor().instrument(tracer_provider=tracing.provider)


def agent(name: str, *tools: Any, **options: Any) -> FunctionAgent:
    llm = OpenAILike(
        model=shop.MODELS[name], api_base=shop.BASE_URL, api_key="scripted", is_chat_model=True,
        is_function_calling_model=True, max_retries=0,
    )  # fmt: skip
    return FunctionAgent(
        name=name, description="Answers questions about the shop.", system_prompt=shop.INSTRUCTIONS, llm=llm,
        tools=[FunctionTool.from_defaults(tool) for tool in tools], streaming=shop.CASE == "streamed", **options,
    )  # fmt: skip


async def ask(asked: Any, question: str) -> str:
    done = await asked.run(user_msg=question, max_iterations=shop.STEP_LIMIT)
    return str(done)


async def main() -> Any:
    with using_attributes(session_id=shop.SESSION_ID, user_id=shop.USER_ID):
        if shop.CASE == "hand_over":
            front = agent("front_desk", can_handoff_to=["billing_desk"])
            team = AgentWorkflow(agents=[front, agent("billing_desk", shop.refund)], root_agent="front_desk")
            return await ask(team, shop.question())
        if shop.CASE == "two_agents":
            with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
                return {
                    name: await ask(agent(name, shop.order_lookup), asked) for name, asked in shop.QUESTIONS.items()
                }
        return await ask(agent("order_desk", shop.order_lookup, shop.stock_level), shop.question())


shop.run(main, tracing.flush)
