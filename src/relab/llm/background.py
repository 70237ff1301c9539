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
    """Call a model in a separate daemon thread and return its answer as an object of the class `schema`.

    Cancelling this coroutine ends the wait at once. The call itself continues, at most until its deadline.

    Args:
        gateway: calls the model.
        prompt: the instructions and the data.
        schema: the class of the answer.
        timeout_s: shortens the configured time limit of the whole call; None: the configured limit.
        billed: a function that is called with the cost of the model call, if one was made.

    Raises:
        LlmError: there is no valid answer.
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

    # The event loop's executor has few threads, and the process waits for them at its exit. A model that does not
    # answer would delay both.
    threading.Thread(target=work, name="relab-llm-call", daemon=True).start()
    return await asyncio.wrap_future(result)
