"""LangChain and LangGraph agents with a scripted model; OpenInference's instrumentation traces them.

Importing this module takes a second, so tests import it only when they run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Any

from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, InjectedToolCallId, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt
from openinference.instrumentation.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider

MODEL = "scripted-1"
ASKING = (11, 7)
SAYING = (23, 5)
"""The prompt and completion tokens of an answer, for a request of tools and for a text."""

DOCUMENTS = ["Returns are taken within 30 days.", "Refunds go to the card."]


class ScriptedModel(BaseChatModel):
    """A chat model that returns the scripted answers in order, and raises an answer that is an exception."""

    script: list[Any]
    calls: int = 0

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": MODEL}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Bind tools in OpenAI's format, as the models of providers do."""
        return self.bind(tools=[convert_to_openai_tool(each) for each in tools], **kwargs)

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        answer = self.script[self.calls]
        self.calls += 1
        if isinstance(answer, Exception):
            raise answer
        return ChatResult(generations=[ChatGeneration(message=answer)])


@contextmanager
def instrumented(provider: TracerProvider) -> Iterator[None]:
    """Trace LangChain while the block runs."""
    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


def asks(*calls: tuple[BaseTool | str, dict[str, Any]]) -> AIMessage:
    """Return an answer that requests tool calls; their ids are call_1, call_2…"""
    return _answer(
        "",
        ASKING,
        "tool_calls",
        tool_calls=[
            {"name": wanted if isinstance(wanted, str) else wanted.name, "args": arguments, "id": f"call_{number}"}
            for number, (wanted, arguments) in enumerate(calls, 1)
        ],
    )


def says(text: str, finish_reason: str = "stop") -> AIMessage:
    """Return an answer with a text."""
    return _answer(text, SAYING, finish_reason)


def _answer(text: str, tokens: tuple[int, int], finish_reason: str, **fields: Any) -> AIMessage:
    usage = {"input_tokens": tokens[0], "output_tokens": tokens[1], "total_tokens": sum(tokens)}
    about = {"model_name": f"{MODEL}-2026-01-01", "finish_reason": finish_reason}
    return AIMessage(text, usage_metadata=usage, response_metadata=about, **fields)


def asked(question: str) -> dict[str, Any]:
    """Return the input of an agent with this question."""
    return {"messages": [{"role": "user", "content": question}]}


@tool
def order_lookup(order_id: str, days: int) -> dict[str, Any]:
    """Look an order up."""
    return {"order_id": order_id, "state": "shipped"}


@tool
def stock_lookup(order_id: str, days: int) -> dict[str, Any]:
    """Look a stock up, in a database that refuses."""
    raise ValueError(f"no customer_id for order {order_id}")


@tool
def find(query: str) -> str:
    """Find something."""
    return f"nothing about {query}"


@tool
def ask_human_agent(question: str, urgency: int) -> str:
    """Ask a human, who is absent."""
    raise TimeoutError(f"nobody answered {question!r}")


@tool
def refund(order_id: str, days: int) -> str:
    """Refund an order when somebody agrees."""
    return f"refunded: {interrupt({'order': order_id})}"


@tool
def to_billing(tool_call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Hand over to billing."""
    update = {"messages": [ToolMessage("handed over", tool_call_id=tool_call_id)]}
    return Command(goto="billing", graph=Command.PARENT, update=update)


def agent(script: Sequence[Any], *tools: BaseTool, name: str = "shop-agent", resumable: bool = False) -> Any:
    """Return an agent made by LangChain's `create_agent`."""
    saver = InMemorySaver() if resumable else None
    return create_agent(ScriptedModel(script=list(script)), list(tools), name=name, checkpointer=saver)


def graph(script: Sequence[Any], *tools: BaseTool, handle_tool_errors: bool = True) -> Any:
    """Return a LangGraph of a model and its tools that has no name."""
    model = ScriptedModel(script=list(script))
    made = StateGraph(MessagesState)
    made.add_node("agent", lambda state: {"messages": [model.invoke(state["messages"])]})
    made.add_node("tools", ToolNode(list(tools), handle_tool_errors=handle_tool_errors))
    made.add_edge(START, "agent")
    made.add_conditional_edges("agent", tools_condition)
    made.add_edge("tools", "agent")
    return made.compile()


def team(front: Any, billing: Any) -> Any:
    """Return a LangGraph of two agents, of which the first hands over to the second."""
    made = StateGraph(MessagesState)
    made.add_node("front", front, destinations=("billing",))
    made.add_node("billing", billing)
    made.add_edge(START, "front")
    return made.compile(name="team")


class PolicyShelf(BaseRetriever):
    """A retriever that returns two documents, or raises `fault`."""

    fault: Exception | None = None

    def _get_relevant_documents(self, *_: Any, **__: Any) -> list[Document]:
        if self.fault is not None:
            raise self.fault
        return [Document(text, metadata={"source": "policy.md"}) for text in DOCUMENTS]


def librarian(script: Sequence[Any], fault: Exception | None = None) -> Any:
    """Return a LangGraph that retrieves documents and then answers."""
    model, shelf = ScriptedModel(script=list(script)), PolicyShelf(fault=fault)

    def look_up(state: Any) -> dict[str, Any]:
        texts = [document.page_content for document in shelf.invoke(state["messages"][-1].content)]
        return {"messages": [("system", "\n".join(texts))]}

    made = StateGraph(MessagesState)
    made.add_node("look_up", look_up)
    made.add_node("answer", lambda state: {"messages": [model.invoke(state["messages"])]})
    made.add_edge(START, "look_up")
    made.add_edge("look_up", "answer")
    made.add_edge("answer", END)
    return made.compile(name="librarian")


async def run_until_cancelled() -> None:
    """Start an agent and cancel it while its tool runs."""
    started = asyncio.Event()

    @tool
    async def wait_forever(order_id: str, days: int) -> None:
        """Never come back."""
        started.set()
        await asyncio.Event().wait()

    waiting = agent([asks((wait_forever, {"order_id": "A-1", "days": 3}))], wait_forever)
    task = asyncio.create_task(waiting.ainvoke(asked("Where is order A-1?")))
    await started.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
