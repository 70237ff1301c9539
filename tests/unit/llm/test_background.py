"""Model calls from an event loop: the loop keeps running, gets every result, and ends without waiting for the model."""

from __future__ import annotations

import asyncio
import threading

import pytest
from pydantic import BaseModel

from relab.llm import (
    Billed,
    LlmUnavailableError,
    Prompt,
    ScriptedGateway,
    ScriptExhaustedError,
    Spent,
    complete_in_background,
)
from relab.llm.gateway import AnswerT
from rig.waiting import wait_until

PROMPT = Prompt("system", "user")


class Word(BaseModel):
    word: str


class SlowGateway:
    """A model that answers once `go_on` is set."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.is_asked = threading.Event()
        self.within_s: float | None = None
        self.thread: threading.Thread | None = None

    def complete(
        self,
        prompt: Prompt,  # noqa: ARG002 the seam's parameter
        schema: type[AnswerT],
        *,
        timeout_s: float | None = None,
        billed: Billed | None = None,  # noqa: ARG002 the seam's parameter
    ) -> AnswerT:
        self.within_s, self.thread = timeout_s, threading.current_thread()
        self.is_asked.set()
        self.go_on.wait(60)
        return schema.model_validate({"word": "late"})


def test_event_loop_runs_during_a_model_call() -> None:
    gateway = SlowGateway()

    async def go() -> Word:
        asking = asyncio.create_task(complete_in_background(gateway, PROMPT, Word, timeout_s=3.0))
        await asyncio.to_thread(gateway.is_asked.wait, 10)
        assert not asking.done()
        gateway.go_on.set()
        return await asking

    assert asyncio.run(go()) == Word(word="late")
    assert gateway.within_s == 3.0


@pytest.mark.parametrize("error", [LlmUnavailableError("down"), ScriptExhaustedError("none")])
def test_error_of_the_call_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        asyncio.run(complete_in_background(ScriptedGateway([error]), PROMPT, Word))


def test_cost_of_the_call_is_reported() -> None:
    bills: list[Spent] = []
    asyncio.run(complete_in_background(ScriptedGateway([{"word": "a"}]), PROMPT, Word, billed=bills.append))
    assert [bill.calls for bill in bills] == [1]


def test_cancelled_caller_does_not_wait_for_the_model() -> None:
    gateway = SlowGateway()

    async def go() -> None:
        asking = asyncio.create_task(complete_in_background(gateway, PROMPT, Word))
        await asyncio.to_thread(gateway.is_asked.wait, 10)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()

    asyncio.run(go())
    # Neither the loop nor its executor waited for the answer.
    assert gateway.thread is not None
    assert gateway.thread.is_alive()
    assert gateway.thread.daemon
    gateway.go_on.set()
    wait_until(lambda: gateway.thread is not None and not gateway.thread.is_alive(), what="the end of the call")
