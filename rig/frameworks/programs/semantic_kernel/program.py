"""Chat completion agents of Semantic Kernel, traced by its own instrumentation."""

from __future__ import annotations

from typing import Annotated, Any

import openai
import shop
import tracing
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai import FunctionChoiceBehavior
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion, OpenAIChatPromptExecutionSettings
from semantic_kernel.functions import KernelArguments, kernel_function


class Orders:
    """The tools of an agent, as a plug-in."""

    @kernel_function
    def order_lookup(self, order_id: Annotated[str, "the order"], customer_id: Annotated[str, "the customer"]) -> str:
        """Look up the state of an order."""
        return shop.order_lookup(order_id, customer_id)

    @kernel_function
    def stock_level(self, sku: Annotated[str, "the article"]) -> str:
        """Count the pieces of an article that are in stock."""
        return shop.stock_level(sku)


class Refunds:
    """The tool of the agent that refunds."""

    @kernel_function
    def refund(self, order_id: Annotated[str, "the order"], amount_eur: Annotated[float, "euros"]) -> str:
        """Refund a part of the price of an order."""
        return shop.refund(order_id, amount_eur)


def agent(name: str, *plugins: Any) -> ChatCompletionAgent:
    client = openai.AsyncOpenAI(max_retries=0)
    settings = OpenAIChatPromptExecutionSettings(
        function_choice_behavior=FunctionChoiceBehavior.Auto(maximum_auto_invoke_attempts=shop.STEP_LIMIT)
    )
    return ChatCompletionAgent(
        service=OpenAIChatCompletion(ai_model_id=shop.MODELS[name], async_client=client), name=name,
        description="Answers questions about the shop.", instructions=shop.INSTRUCTIONS, plugins=list(plugins),
        arguments=KernelArguments(settings=settings),
    )  # fmt: skip


async def ask(asked: ChatCompletionAgent, question: str) -> str:
    if shop.CASE == "streamed":
        return "".join([str(part) async for part in asked.invoke_stream(question)])
    return str(await asked.get_response(question))


async def main() -> Any:
    if shop.CASE == "hand_over":
        return await ask(agent("front_desk", agent("billing_desk", Refunds())), shop.question())
    if shop.CASE == "two_agents":
        with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
            return {name: await ask(agent(name, Orders()), asked) for name, asked in shop.QUESTIONS.items()}
    return await ask(agent("order_desk", Orders()), shop.question())


shop.run(main, tracing.flush)
