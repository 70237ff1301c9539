"""Agents of the OpenAI Agents SDK, traced by OpenInference."""

from __future__ import annotations

from typing import Any

import agents
import openai
import shop
import tracing
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

OpenAIAgentsInstrumentor().instrument(tracer_provider=tracing.provider)
agents.set_default_openai_client(openai.AsyncOpenAI(max_retries=0), use_for_tracing=False)

# By default, the SDK passes a tool's error to the model as text; with None it raises the error.
HANDLING = {"failure_error_function": None} if shop.CASE == "raised_error" else {}


def agent(name: str, *tools: Any, **options: Any) -> agents.Agent[None]:
    wrapped = [agents.function_tool(tool, **HANDLING) for tool in tools]
    return agents.Agent(name=name, instructions=shop.INSTRUCTIONS, model=shop.MODELS[name], tools=wrapped, **options)


@agents.output_guardrail
async def no_secrets(context: Any, asked: Any, output: Any) -> agents.GuardrailFunctionOutput:
    return agents.GuardrailFunctionOutput(output_info=None, tripwire_triggered="secret" in str(output))


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
    with (
        using_attributes(session_id=shop.SESSION_ID, user_id=shop.USER_ID),
        agents.trace("shop", group_id=shop.SESSION_ID),
    ):
        if shop.CASE == "hand_over":
            billing = agent("billing_desk", shop.refund)
            return await ask(agent("front_desk", handoffs=[billing]), shop.question())
        if shop.CASE == "two_agents":
            return {name: await ask(agent(name, shop.order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
        if shop.CASE == "guardrail":
            guarded = agent("order_desk", shop.order_lookup, output_guardrails=[no_secrets])
            return await ask(guarded, shop.question())
        if shop.CASE == "paused":
            lookup = agents.function_tool(shop.order_lookup, needs_approval=True)
            desk = agents.Agent(name="order_desk", model=shop.MODELS["order_desk"], tools=[lookup])
            return await ask(desk, shop.question())
        if shop.CASE.startswith("cancelled"):
            lookup = shop.slow_order_lookup if shop.CASE == "cancelled_tool" else shop.order_lookup
            return await shop.cancelled(ask(agent("order_desk", lookup), shop.question()))
        return await ask(agent("order_desk", shop.order_lookup, shop.stock_level), shop.question())


shop.run(main, tracing.flush)
