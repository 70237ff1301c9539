"""Agents of the OpenAI Agents SDK, traced by OpenTelemetry's own instrumentation."""

from __future__ import annotations

from typing import Any

import agents
import openai
import shop
import tracing
from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

OpenAIAgentsInstrumentor().instrument(tracer_provider=tracing.provider)
agents.set_default_openai_client(openai.AsyncOpenAI(max_retries=0), use_for_tracing=False)

# By default, the SDK passes a tool's error to the model as text; with None it raises the error.
HANDLING = {"failure_error_function": None} if shop.CASE == "raised_error" else {}


def agent(name: str, *tools: Any, **options: Any) -> agents.Agent[None]:
    wrapped = [agents.function_tool(tool, **HANDLING) for tool in tools]
    return agents.Agent(name=name, instructions=shop.INSTRUCTIONS, model=shop.MODELS[name], tools=wrapped, **options)


async def ask(asked: agents.Agent[None], question: str) -> str:
    if shop.CASE == "streamed":
        streamed = agents.Runner.run_streamed(asked, question, max_turns=shop.STEP_LIMIT)
        async for _ in streamed.stream_events():
            pass
        return streamed.final_output
    done = await agents.Runner.run(asked, question, max_turns=shop.STEP_LIMIT)
    return done.final_output


async def main() -> Any:
    # By default, the SDK begins a trace for each run; `trace` combines all runs in one.
    with agents.trace("shop", group_id=shop.SESSION_ID):
        if shop.CASE == "hand_over":
            billing = agent("billing_desk", shop.refund)
            return await ask(agent("front_desk", handoffs=[billing]), shop.question())
        if shop.CASE == "two_agents":
            return {name: await ask(agent(name, shop.order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
        return await ask(agent("order_desk", shop.order_lookup, shop.stock_level), shop.question())


shop.run(main, tracing.flush)
