"""Agents of Agno, traced by OpenInference."""

from __future__ import annotations

from typing import Any

import shop
import tracing
from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.team import Team
from agno.tools import tool
from openinference.instrumentation import using_attributes
from openinference.instrumentation.agno import AgnoInstrumentor

AgnoInstrumentor().instrument(tracer_provider=tracing.provider)


def agent(name: str, *tools: Any) -> Agent:
    model = OpenAIChat(id=shop.MODELS[name], max_retries=0)
    return Agent(
        id=name,
        name=name,
        model=model,
        tools=list(tools),
        instructions=shop.INSTRUCTIONS,
        tool_call_limit=shop.STEP_LIMIT,
        telemetry=False,
    )


def ask(asked: Any, question: str) -> str:
    if shop.CASE == "streamed":
        *_, done = asked.run(
            question,
            session_id=shop.SESSION_ID,
            user_id=shop.USER_ID,
            stream=True,
            stream_events=True,
            yield_run_output=True,
        )
        return str(done.content)
    done = asked.run(question, session_id=shop.SESSION_ID, user_id=shop.USER_ID)
    if str(getattr(done.status, "value", done.status)).lower() == "error":
        # Agno does not raise an error of the model, but returns it as the content of the run.
        raise RuntimeError(done.content)
    return str(done.content)


def main() -> Any:
    if shop.CASE.startswith("cancelled"):
        lookup = shop.slow_order_lookup if shop.CASE == "cancelled_tool" else shop.order_lookup
        asked = agent("order_desk", lookup)
        return shop.cancelled(asked.arun(shop.question(), session_id=shop.SESSION_ID, user_id=shop.USER_ID))
    with using_attributes(session_id=shop.SESSION_ID, user_id=shop.USER_ID):
        if shop.CASE == "hand_over":
            model = OpenAIChat(id=shop.MODELS["front_desk"], max_retries=0)
            members = [agent("billing_desk", shop.refund)]
            team = Team(name="front_desk", model=model, members=members, telemetry=False)
            return ask(team, shop.question())
        if shop.CASE == "two_agents":
            with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
                return {name: ask(agent(name, shop.order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
        if shop.CASE == "paused":
            careful = tool(requires_confirmation=True)(shop.order_lookup)
            done = agent("order_desk", careful).run(shop.question(), session_id=shop.SESSION_ID, user_id=shop.USER_ID)
            return None if done.is_paused else done.content
        return ask(agent("order_desk", shop.order_lookup, shop.stock_level), shop.question())


shop.run(main, tracing.flush)
