"""Run a coroutine from synchronous code with a deadline in wall-clock time.

The read timeout of an HTTP client does not limit the duration of a call: each byte that the server sends restarts the
timeout. So each call is a task that is cancelled at its deadline, which closes the connection. The task runs in a new
event loop in a new thread. A loop per call also works after a fork. It needs a new connection for each call; that time
does not matter, because a call lasts seconds.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from relab.llm.errors import LlmBusyError, LlmTooSlowError

T = TypeVar("T")

_GRACE_S = 0.5
"""How long after its deadline a task may deliver its result, in seconds. Only a blocked loop takes longer."""


class DeadlineRunner:
    """Runs up to `max_concurrency` coroutines at the same time, each in its own thread and with its own deadline.

    A DNS query cannot be cancelled. A thread that waits for one runs on after its deadline, until the resolver times
    out, and counts towards `max_concurrency` until then.
    """

    def __init__(self, max_concurrency: int) -> None:
        self._slots = threading.BoundedSemaphore(max_concurrency)

    def run(self, work: Callable[[float], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """Run the coroutine `work(ends_at)` in a separate thread, and return its result.

        The coroutine runs in an empty `contextvars` context, so that tracers of the caller do not see it.

        Args:
            work: returns the coroutine; `ends_at` is its deadline, as a time of `time.monotonic`.
            timeout_s: the time limit in seconds, including the wait while `max_concurrency` coroutines run.

        Raises:
            LlmBusyError: the time limit passed while `max_concurrency` other coroutines ran; the coroutine was not
                started.
            LlmTooSlowError: the time limit passed while the coroutine ran.
            Exception: the exception of the coroutine.
        """
        ends_at = time.monotonic() + timeout_s
        if not self._slots.acquire(timeout=timeout_s):
            raise LlmBusyError(
                f"No slot for a model call became free within {timeout_s:g} s.",
                remedy="Repeat it later, or use a faster model.",
            )
        result: Future[T] = Future()
        thread = threading.Thread(
            target=contextvars.Context().run,
            args=(self._work, work, ends_at, timeout_s, result),
            name="relab-llm",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            self._slots.release()
            raise
        try:
            return result.result(timeout=max(0.0, ends_at - time.monotonic()) + _GRACE_S)
        except TimeoutError:
            # The coroutine itself raised TimeoutError, or its result arrived at the last moment.
            if result.done():
                return result.result()
        raise _too_slow(timeout_s)

    def _work(
        self, work: Callable[[float], Coroutine[Any, Any, T]], ends_at: float, timeout_s: float, result: Future[T]
    ) -> None:
        try:
            asyncio.run(_deliver(work, ends_at, timeout_s, result))
        except BaseException as error:
            if result.done():
                raise
            result.set_exception(error)
        finally:
            self._slots.release()


async def _deliver(
    work: Callable[[float], Coroutine[Any, Any, T]], ends_at: float, timeout_s: float, result: Future[T]
) -> None:
    # Set the result inside the loop: closing the loop may wait for the resolver, but the caller must not.
    deadline = asyncio.timeout(ends_at - time.monotonic())
    failure: BaseException
    try:
        async with deadline:
            value = await work(ends_at)
    except BaseException as error:  # noqa: BLE001 raised in the caller's thread
        failure = error
    else:
        result.set_result(value)
        return
    result.set_exception(_too_slow(timeout_s) if deadline.expired() else failure)


def _too_slow(timeout_s: float) -> LlmTooSlowError:
    return LlmTooSlowError(
        f"The model did not answer within {timeout_s:g} s.", remedy="Raise RELAB_LLM__TIMEOUT_S, or use a faster model."
    )
