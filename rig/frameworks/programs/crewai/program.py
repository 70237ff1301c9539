"""Crews of CrewAI, traced by OpenInference."""

from __future__ import annotations

from typing import Any

import shop
import tracing
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool
from openinference.instrumentation import using_attributes
from openinference.instrumentation.crewai import CrewAIInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor

CrewAIInstrumentor().instrument(tracer_provider=tracing.provider)
OpenAIInstrumentor().instrument(tracer_provider=tracing.provider)

order_lookup = tool("order_lookup")(shop.order_lookup)
stock_level = tool("stock_level")(shop.stock_level)
refund = tool("refund")(shop.refund)


def agent(name: str, *tools: Any, **options: Any) -> Agent:
    llm = LLM(
        model=f"openai/{shop.MODELS[name]}",
        base_url=shop.BASE_URL,
        api_key="scripted",
        max_retries=0,
        stream=shop.CASE == "streamed",
    )
    return Agent(
        role=name, goal="Answer the customer.", backstory=shop.INSTRUCTIONS, tools=list(tools), llm=llm,
        max_iter=shop.STEP_LIMIT, max_retry_limit=0, **options,
    )  # fmt: skip


def ask(agents: list[Agent], question: str) -> str:
    task = Task(description=question, expected_output="An answer.", agent=agents[0])
    return str(Crew(agents=agents, tasks=[task], name="shop").kickoff())


def main() -> Any:
    with using_attributes(session_id=shop.SESSION_ID, user_id=shop.USER_ID):
        if shop.CASE == "hand_over":
            return ask([agent("front_desk", allow_delegation=True), agent("billing_desk", refund)], shop.question())
        if shop.CASE == "two_agents":
            with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
                return {name: ask([agent(name, order_lookup)], asked) for name, asked in shop.QUESTIONS.items()}
        return ask([agent("order_desk", order_lookup, stock_level)], shop.question())


shop.run(main, tracing.flush)
