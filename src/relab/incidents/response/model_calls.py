"""Calls to a language model for one incident.

Each call is stored before it is made, so that the spent part of the budget is known after a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relab.core.clock import Clock
from relab.core.ids import new_id
from relab.core.logging import get_logger
from relab.incidents.diagnosis.model_answers import ModelAnswer
from relab.incidents.diagnosis.settings import ModelSettings
from relab.incidents.storage.log import IncidentLog
from relab.incidents.storage.models import NewEvent, TimelineEvent
from relab.llm import (
    LlmBudgetExceededError,
    LlmError,
    LlmGateway,
    LlmTooSlowError,
    LlmUnavailableError,
    Prompt,
    Spent,
    complete_in_background,
)

ASKED: Final = "model_asked"
ANSWERED: Final = "model_answered"
FAILED: Final = "model_failed"
NOT_ASKED: Final = "model_not_asked"
_MIN_CALL_S: Final = 1.0
"""The least remaining time, in seconds, with which a call is still made."""
_MAX_ATTEMPTS: Final = 5
_CALLS: Final = "RELAB_INCIDENTS__MAX_MODEL_CALLS_PER_INCIDENT"
_TOKENS: Final = "RELAB_INCIDENTS__MAX_MODEL_TOKENS_PER_INCIDENT"
_TIME: Final = "RELAB_INCIDENTS__MAX_MODEL_TIME_PER_INCIDENT_S"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Spending:
    """The total cost of the model calls for an incident.

    A call without a known result counts with its maximum tokens and seconds, and with 0 dollars. A call that the
    gateway did not make, for example because too many others were running, counts only with the seconds of its wait.

    Attributes:
        calls: the number of calls that the gateway made.
        tokens: the tokens of prompts and answers.
        took_s: the seconds of all calls and waits.
        usd: the cost in US dollars.
        requested: the number of all calls, including those that the gateway did not make.
    """

    calls: int = 0
    tokens: int = 0
    took_s: float = 0.0
    usd: float = 0.0
    requested: int = 0


def spending_of(events: Iterable[TimelineEvent]) -> Spending:
    """Return the total cost of the model calls in a timeline."""
    asked: dict[str, Mapping[str, Any]] = {}
    for event in events:
        # The event of the result comes later, and replaces the reserved maximum.
        if event.kind in {ASKED, ANSWERED, FAILED}:
            asked[str(event.content.get("call_id"))] = event.content
    calls = asked.values()
    return Spending(
        # Events of earlier versions do not say whether the gateway made the call.
        calls=sum(call.get("is_made", True) for call in calls),
        tokens=sum(call["prompt_tokens"] + call["completion_tokens"] for call in calls),
        took_s=sum(call["took_s"] for call in calls),
        usd=sum(call["usd"] for call in calls),
        requested=len(asked),
    )


class ModelCalls:
    """Calls a language model for one incident, within the incident's budget, and writes each call to the timeline."""

    def __init__(
        self, gateway: LlmGateway, log: IncidentLog, clock: Clock, incident_id: str, settings: ModelSettings
    ) -> None:
        self._gateway = gateway
        self._log = log
        self._clock = clock
        self._incident_id = incident_id
        self._settings = settings

    async def ask(self, prompt: Prompt) -> ModelAnswer:
        """Send a prompt to the model, and return its answer.

        Raises:
            LlmError: the model gives no answer, or the budget of the incident does not cover the call.
        """
        call_id, within_s = await self._begin(prompt)
        loop = asyncio.get_running_loop()
        began_s, bills = loop.time(), list[Spent]()
        failure: LlmError | None = None
        try:
            answer = await complete_in_background(
                self._gateway, prompt, ModelAnswer, timeout_s=within_s, billed=bills.append
            )
        except LlmTooSlowError as error:
            failure = error
            if within_s < self._settings.call_timeout_s:
                # The time that is left for the incident, and not the time limit of a call, ended this call.
                failure.remedy = f"Raise {_TIME} ({self._settings.max_total_s:g}), or use a faster model."
        except LlmError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 a second opinion that fails must not end the incident
            _log.exception("model_failed", incident_id=self._incident_id)
            failure = LlmUnavailableError(f"Asking the model has failed: {type(error).__name__}.")
        # Without a request there is no bill.
        spent = bills[0] if bills else Spent(0, 0, 0, 0.0)
        content = {
            "call_id": call_id,
            "is_made": failure is None or bool(bills),
            "outcome": "ok" if failure is None else failure.code,
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            # 0 beside tokens is an unknown cost, as `tracing/projection.py` reads it.
            "usd": round(spent.usd or 0.0, 6),
            "took_s": round(loop.time() - began_s, 3),
        }
        if failure is not None:
            await self.append_event(FAILED, f"{failure} The result of the rules is used.", content)
            raise failure
        tokens = spent.prompt_tokens + spent.completion_tokens
        await self.append_event(
            ANSWERED, f"The model has answered after {content['took_s']} s ({tokens} tokens).", content
        )
        return answer

    async def append_event(
        self, kind: str, message: str, content: Mapping[str, Any], evidence: Sequence[str] = ()
    ) -> None:
        """Append an event about the model's answer to the timeline.

        Args:
            kind: the kind of the event.
            message: one sentence for people.
            content: the data of the event, as JSON values.
            evidence: the ids of the evidence that the answer cites.
        """
        await self._append(NewEvent(kind, message, content, evidence))

    async def spending(self) -> Spending:
        """Return the total cost of the calls for this incident so far."""
        return spending_of(await asyncio.to_thread(self._timeline))

    async def _begin(self, prompt: Prompt) -> tuple[str, float]:
        """Append the beginning of a model call, with its maximum tokens and seconds, to the timeline.

        Return `(id of the call, its time limit in seconds)`.

        Raises:
            LlmBudgetExceededError: the incident's budget does not cover the call, or another process calls the model
                for the same incident now.
        """
        call_id, settings = new_id(), self._settings
        for _ in range(_MAX_ATTEMPTS):
            so_far = await self.spending()
            within_s = min(settings.call_timeout_s, settings.max_total_s - so_far.took_s)
            await self._require(so_far, prompt, within_s)
            number = so_far.requested + 1
            content = {
                "call_id": call_id,
                "number": number,
                "prompt_tokens": prompt.most_tokens(),
                "completion_tokens": settings.max_answer_tokens,
                "usd": 0.0,
                "took_s": within_s,
            }
            message = f"Calling the model: call {so_far.calls + 1} of at most {settings.max_calls}."
            asked = await self._append(NewEvent(ASKED, message, content, once=f"{ASKED}.{number}"))
            if asked.content.get("call_id") == call_id:
                return call_id, within_s
            # Another process that has lost the lease, and has not noticed it yet, has taken this number.
        raise LlmBudgetExceededError("Another process calls the model for this incident.")

    async def _require(self, so_far: Spending, prompt: Prompt, within_s: float) -> None:
        """Check that the budget covers another call, which may take `within_s` seconds.

        `so_far` is the cost of the earlier calls.

        Raises:
            LlmBudgetExceededError: the budget does not cover the call.
        """
        settings = self._settings
        tokens = so_far.tokens + prompt.most_tokens() + settings.max_answer_tokens
        if so_far.calls >= settings.max_calls:
            problem, setting = f"{settings.max_calls} calls are allowed for an incident", _CALLS
        elif tokens > settings.max_tokens:
            problem = f"an incident may take {settings.max_tokens} tokens, and this call could bring it to {tokens}"
            setting = _TOKENS
        elif within_s < _MIN_CALL_S:
            problem = (
                f"the model may take {settings.max_total_s:g} s for an incident, and has taken {so_far.took_s:.0f} s"
            )
            setting = _TIME
        else:
            return
        error = LlmBudgetExceededError(f"The model is not called: {problem}.", remedy=f"Raise {setting}.")
        await self._append(
            NewEvent(NOT_ASKED, f"{error} The result of the rules is used.", once=f"{NOT_ASKED}.{so_far.requested}")
        )
        raise error

    async def _append(self, event: NewEvent) -> TimelineEvent:
        at_us = self._clock.now_us()
        (appended,) = await asyncio.to_thread(self._log.append, self._incident_id, event, at_us=at_us)
        return appended

    def _timeline(self) -> list[TimelineEvent]:
        found: list[TimelineEvent] = []
        while page := self._log.read_after(self._incident_id, found[-1].seq if found else 0):
            found += page
        return found
