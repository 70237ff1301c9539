"""Agents of LangGraph with LangChain's models and tools, traced by OpenInference."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Any

import shop
import tracing
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware, wrap_tool_call
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor

LangChainInstrumentor().instrument(tracer_provider=tracing.provider)


@wrap_tool_call
def tell_the_model(request: Any, handler: Any) -> Any:
    """Hand an exception of a tool to the model, as LangChain's documentation shows."""
    try:
        return handler(request)
    except Exception as error:
        if shop.CASE == "raised_error":
            raise
        text = f"Error: {type(error).__name__}: {error}"
        return ToolMessage(content=text, tool_call_id=request.tool_call["id"], status="error")


@dataclass
class Delivery:
    """The answer of the case `structured`."""

    order_id: str
    carrier: str
    days: int


@tool
def ask_billing_desk(task: str) -> str:
    """Ask the agent that can refund."""
    return ask(agent("billing_desk", shop.refund), task)


def agent(name: str, *tools: Any, **options: Any) -> Any:
    model = ChatOpenAI(model=shop.MODELS[name], max_retries=0)
    # The middleware is not written for asyncio, in which agents are cancelled.
    middleware: list[Any] = [] if shop.CASE.startswith("cancelled") else [tell_the_model]
    if shop.CASE == "paused":
        middleware.append(HumanInTheLoopMiddleware(interrupt_on={"order_lookup": True}))
    return create_agent(
        model, list(tools), system_prompt=shop.INSTRUCTIONS, name=name, middleware=middleware, **options
    )  # fmt: skip


# A step of the graph is a call of the model or of a tool.
CONFIG = {"recursion_limit": 2 * shop.STEP_LIMIT, "configurable": {"thread_id": shop.SESSION_ID}}


def ask(asked: Any, question: str) -> str | None:
    given = {"messages": [{"role": "user", "content": question}]}
    if shop.CASE == "streamed":
        *_, (_, done) = (
            part for part in asked.stream(given, CONFIG, stream_mode=["values", "messages"]) if part[0] == "values"
        )
    else:
        done = asked.invoke(given, CONFIG)
    if shop.CASE == "structured":
        return json.dumps(asdict(done["structured_response"]))
    return None if shop.CASE == "paused" else done["messages"][-1].content


def main() -> Any:
    with using_attributes(session_id=shop.SESSION_ID, user_id=shop.USER_ID):
        if shop.CASE == "hand_over":
            return ask(agent("front_desk", ask_billing_desk), shop.question())
        if shop.CASE == "two_agents":
            with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
                return {name: ask(agent(name, shop.order_lookup), asked) for name, asked in shop.QUESTIONS.items()}
        if shop.CASE == "structured":
            return ask(agent("order_desk", shop.order_lookup, response_format=ToolStrategy(Delivery)), shop.question())
        if shop.CASE == "paused":
            return ask(agent("order_desk", shop.order_lookup, checkpointer=InMemorySaver()), shop.question())
        if shop.CASE.startswith("cancelled"):
            lookup = shop.slow_order_lookup if shop.CASE == "cancelled_tool" else shop.order_lookup
            asked = agent("order_desk", lookup)
            given = {"messages": [{"role": "user", "content": shop.question()}]}
            return asyncio.run(shop.cancelled(asked.ainvoke(given, CONFIG)))
        return ask(agent("order_desk", shop.order_lookup, shop.stock_level), shop.question())


shop.run(main, tracing.flush)
