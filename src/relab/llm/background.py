"""Call a model from an event loop without blocking the loop."""

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
    """Call a model in a separate daemon thread, and return its answer; see `LlmGateway.complete` for arguments and errors.

    The threads of the event loop's executor are not used. They are few, and a process waits for each of them before it
    exits. So a model that does not answer would delay transactions and the exit. Cancelling this coroutine ends the
    wait at once. The call itself goes on until it ends, at the latest at its deadline.
    """
    result: Future[AnswerT] = Future()

    def work() -> None:
        # Mark the future as running: from now on, it cannot be cancelled, so its result can be set below.
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
