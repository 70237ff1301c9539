"""Agents of Google's Agent Development Kit, traced by its own instrumentation; the model is called through LiteLLM."""

from __future__ import annotations

from typing import Any

import shop
import tracing
from google.adk.agents import LlmAgent, RunConfig
from google.adk.agents.run_config import StreamingMode
from google.adk.models.lite_llm import LiteLlm
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import InMemoryRunner
from google.genai import types


class TellTheModel(BasePlugin):
    """Hands an exception of a tool to the model; without such a plugin it reaches the caller."""

    async def on_tool_error_callback(self, *, error: Exception, **_: Any) -> dict[str, Any] | None:
        if shop.CASE == "raised_error":
            return None
        return {"error": f"{type(error).__name__}: {error}"}


def agent(name: str, *tools: Any, **options: Any) -> LlmAgent:
    model = LiteLlm(model=f"openai/{shop.MODELS[name]}", api_base=shop.BASE_URL, api_key="scripted", num_retries=0)
    return LlmAgent(name=name, model=model, instruction=shop.INSTRUCTIONS, tools=list(tools), **options)


async def ask(asked: LlmAgent, question: str) -> str | None:
    runner = InMemoryRunner(agent=asked, app_name=shop.SERVICE, plugins=[TellTheModel("tell_the_model")])
    await runner.session_service.create_session(app_name=shop.SERVICE, user_id=shop.USER_ID, session_id=shop.SESSION_ID)
    message = types.Content(role="user", parts=[types.Part(text=question)])
    answer = None
    async for event in runner.run_async(
        user_id=shop.USER_ID,
        session_id=shop.SESSION_ID,
        new_message=message,
        run_config=RunConfig(
            max_llm_calls=shop.STEP_LIMIT,
            streaming_mode=StreamingMode.SSE if shop.CASE == "streamed" else StreamingMode.NONE,
        ),
    ):
        if event.is_final_response() and event.content and event.content.parts:
            answer = event.content.parts[0].text
    return answer


async def main() -> Any:
    if shop.CASE == "hand_over":
        return await ask(agent("front_desk", sub_agents=[agent("billing_desk", shop.refund)]), shop.question())
    if shop.CASE == "two_agents":
        with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
            return {name: await ask(agent(name, shop.order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
    return await ask(agent("order_desk", shop.order_lookup, shop.stock_level), shop.question())


shop.run(main, tracing.flush)
