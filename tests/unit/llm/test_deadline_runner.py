"""The deadline runner: a coroutine gets a fixed time, and leaves no thread, context or slot behind."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable

import pytest

from relab.llm.deadline import DeadlineRunner
from relab.llm.errors import LlmUnavailableError

inherited: contextvars.ContextVar[str] = contextvars.ContextVar("inherited", default="nothing")


def wait_for(condition: Callable[[], bool], *, within_s: float = 10.0) -> bool:
    ends_at = time.monotonic() + within_s
    pause = threading.Event()
    while not condition() and time.monotonic() < ends_at:
        pause.wait(0.005)
    return condition()


def running() -> int:
    return sum(thread.name == "relab-llm" for thread in threading.enumerate())


def test_returns_the_result_of_the_coroutine() -> None:
    async def work(ends_at: float) -> float:
        await asyncio.sleep(0)
        return ends_at - time.monotonic()

    assert 0 < DeadlineRunner(1).run(work, 30) <= 30


def test_raises_the_error_of_the_coroutine() -> None:
    async def work(_: float) -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError) as caught:
        DeadlineRunner(1).run(work, 30)
    assert caught.value.args == ("a bug",)


def test_timeout_error_of_the_coroutine_is_not_mistaken_for_the_deadline() -> None:
    async def work(_: float) -> None:
        raise TimeoutError("of a socket")

    with pytest.raises(TimeoutError) as caught:
        DeadlineRunner(1).run(work, 30)
    assert caught.value.args == ("of a socket",)


def test_deadline_cancels_the_coroutine() -> None:
    cancelled = threading.Event()

    async def work(_: float) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(LlmUnavailableError, match=r"0\.05 s"):
        DeadlineRunner(1).run(work, 0.05)

    assert cancelled.wait(10)
    assert wait_for(lambda: running() == 0)


def test_uncancellable_thread_keeps_its_slot_but_does_not_block_the_caller() -> None:
    resolver_answers, is_stuck = threading.Event(), threading.Semaphore(0)

    def stuck() -> None:
        is_stuck.release()
        resolver_answers.wait(60)

    runner = DeadlineRunner(2)

    async def work(_: float) -> None:
        # asyncio resolves names in such a thread; it can be cancelled as long as it has not started.
        resolving = asyncio.get_running_loop().run_in_executor(None, stuck)
        assert is_stuck.acquire(timeout=60)
        await resolving

    for _ in range(2):
        with pytest.raises(LlmUnavailableError, match="did not answer"):
            runner.run(work, 0.05)
    with pytest.raises(LlmUnavailableError, match="slot"):
        runner.run(work, 0.05)
    assert running() == 2

    resolver_answers.set()
    assert wait_for(lambda: running() == 0)


def test_slot_is_released_after_a_result_and_after_an_error() -> None:
    runner = DeadlineRunner(1)

    async def fine(_: float) -> str:
        return "fine"

    async def broken(_: float) -> str:
        raise RuntimeError("broken")

    for _ in range(3):
        assert runner.run(fine, 30) == "fine"
        with pytest.raises(RuntimeError) as caught:
            runner.run(broken, 30)
        assert caught.value.args == ("broken",)


def test_coroutine_does_not_inherit_the_context_of_the_caller() -> None:
    async def work(_: float) -> str:
        return inherited.get()

    token = inherited.set("a tracer")
    try:
        assert DeadlineRunner(1).run(work, 30) == "nothing"
    finally:
        inherited.reset(token)


def test_works_under_a_running_event_loop() -> None:
    async def work(_: float) -> str:
        return "inside"

    async def caller() -> str:
        return DeadlineRunner(1).run(work, 30)

    assert asyncio.run(caller()) == "inside"
