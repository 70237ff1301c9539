"""Measure the cost of the calls that one part of relab makes through a gateway that several parts share."""

from __future__ import annotations

import threading

from relab.llm.budget import Spent
from relab.llm.gateway import AnswerT, Billed, LlmGateway
from relab.llm.langchain_gateway import LangChainGateway
from relab.llm.models import Prompt


class MeteredGateway:
    """Wraps another gateway, and sums the cost of all calls that are made through this wrapper. It is thread-safe."""

    def __init__(self, gateway: LlmGateway) -> None:
        self._gateway = gateway
        self._lock = threading.Lock()
        self._spent = Spent(0, 0, 0, 0.0)

    @property
    def spent(self) -> Spent:
        """The total cost of the calls made through this wrapper."""
        with self._lock:
            return self._spent

    def preload(self) -> None:
        """Load the library that the first call of the wrapped gateway needs; do nothing if it needs none."""
        if isinstance(self._gateway, LangChainGateway):
            self._gateway.preload()

    def complete(
        self, prompt: Prompt, schema: type[AnswerT], *, timeout_s: float | None = None, billed: Billed | None = None
    ) -> AnswerT:
        """Call the model through the wrapped gateway, and return its answer as an object of the class `schema`.

        `timeout_s` shortens the configured time limit of the call. `billed` is called with the cost of the model call,
        if one was made.

        Raises:
            LlmError: there is no valid answer.
        """

        def add(spent: Spent) -> None:
            with self._lock:
                so_far = self._spent
                self._spent = Spent(
                    so_far.calls + spent.calls,
                    so_far.prompt_tokens + spent.prompt_tokens,
                    so_far.completion_tokens + spent.completion_tokens,
                    None if so_far.usd is None or spent.usd is None else so_far.usd + spent.usd,
                )
            if billed is not None:
                billed(spent)

        return self._gateway.complete(prompt, schema, timeout_s=timeout_s, billed=add)
