"""Asking a model from an event loop that has other things to do meanwhile."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from relab.llm.gateway import AnswerT, Billed, LlmGateway
from relab.llm.models import Prompt


async def complete_in_background(
    gateway: LlmGateway,
    prompt: Prompt,
    schema: type[AnswerT],
    *,
    timeout_s: float | None = None,
    billed: Billed | None = None,
) -> AnswerT:
    """Ask a model in a thread of its own; see `LlmGateway.complete`.

    Not in one of the loop's threads: there are few of them, and a process that ends waits for each, so that a model that
    does not answer would hold up transactions and the end. Cancelling this stops the waiting at once, and the call by its
    own deadline.
    """
    result: Future[AnswerT] = Future()

    def work() -> None:
        # Marks it as begun: from here on cancelling the waiting does not cancel what is written below.
        if not result.set_running_or_notify_cancel():
            return
        try:
            answer = gateway.complete(prompt, schema, timeout_s=timeout_s, billed=billed)
        except BaseException as error:  # noqa: BLE001 raised where it is waited for
            result.set_exception(error)
        else:
            result.set_result(answer)

    threading.Thread(target=work, name="relab-llm-call", daemon=True).start()
    return await asyncio.wrap_future(result)
