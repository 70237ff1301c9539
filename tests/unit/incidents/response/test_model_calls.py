"""Model calls of an incident: recorded before and after the call, limited per incident, and not lost by a restart."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from relab.incidents.response.model_calls import Spending, spending_of
from relab.incidents.storage.log import IncidentLog
from relab.llm import Billed, LlmBudgetExceededError, LlmError, LlmUnavailableError, Prompt, ScriptedGateway, Spent
from relab.llm.errors import LlmBusyError, LlmTooSlowError
from relab.llm.gateway import AnswerT
from rig.children import read_line
from support.incidents.modelled_cases import Case, ThinkingGateway, a_log, case, named
from support.lab.forked import forked

PROMPT = Prompt("system", "user")
ANSWER: Mapping[str, Any] = {"cause": "unknown", "probability": 0.5, "evidence_ids": [], "looks": []}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IncidentLog]:
    with a_log(tmp_path_factory.mktemp("log")) as found:
        yield found


def ask(made: Case) -> None:
    asyncio.run(made.calls().ask(PROMPT))


def refusal(made: Case) -> str:
    with pytest.raises(LlmBudgetExceededError) as caught:
        ask(made)
    (told,) = made.told("model_not_asked")
    assert caught.value.message in told.message
    return told.message


def test_cost_of_a_call_is_in_the_timeline(log: IncidentLog) -> None:
    made = case(log, ThinkingGateway(lambda _: ANSWER))
    made.gateway = named("unknown")
    asyncio.run(made.investigate())
    asked, answered = made.told("model_asked", "model_answered")
    assert asked.message == "Calling the model: call 1 of at most 6."
    # The maximum cost of the call, which counts until the actual cost is known.
    assert asked.content["completion_tokens"] == 1_024
    assert asked.content["took_s"] == 20.0
    assert answered.content["call_id"] == asked.content["call_id"]
    assert answered.content["outcome"] == "ok"
    found = asyncio.run(made.calls().spending())
    assert found.calls == 1
    assert found.tokens == 1_100
    assert found.usd == 0.002
    assert found.took_s == answered.content["took_s"]


def test_number_of_calls_per_incident_is_limited(log: IncidentLog) -> None:
    made = case(log, ScriptedGateway([ANSWER] * 3), max_calls=2)
    ask(made)
    ask(made)
    assert refusal(made).startswith(
        "The model is not called: 2 calls are allowed for an incident. Raise RELAB_INCIDENTS__MAX_MODEL_CALLS_PER_INCIDENT."
    )
    # The refusal is recorded once, however often a call is wanted.
    assert refusal(made)
    assert len(made.told("model_asked")) == 2


def test_tokens_are_reserved_before_a_call_and_counted_after_it(log: IncidentLog) -> None:
    room = PROMPT.most_tokens() + 1_024
    made = case(log, ScriptedGateway([ANSWER] * 9), max_tokens=room + PROMPT.most_tokens())
    # The scripted answer costs no completion tokens, so the second call can reserve those of the first.
    ask(made)
    ask(made)
    assert "tokens, and this call could bring it to" in refusal(made)
    assert "Raise RELAB_INCIDENTS__MAX_MODEL_TOKENS_PER_INCIDENT." in refusal(made)


def test_incident_continues_without_a_slow_model(log: IncidentLog) -> None:
    made = case(log, ScriptedGateway([ANSWER] * 2), max_total_s=0.5)
    assert "the model may take 0.5 s for an incident" in refusal(made)
    assert "Raise RELAB_INCIDENTS__MAX_MODEL_TIME_PER_INCIDENT_S." in refusal(made)


@pytest.mark.parametrize(
    ("max_total_s", "setting"),
    [(30.0, "RELAB_INCIDENTS__MAX_MODEL_TIME_PER_INCIDENT_S (30)"), (600.0, "RELAB_LLM__TIMEOUT_S")],
)
def test_call_that_was_too_slow_names_the_limit_that_ended_it(
    log: IncidentLog, max_total_s: float, setting: str
) -> None:
    slow = LlmTooSlowError("The model did not answer.", remedy="Raise RELAB_LLM__TIMEOUT_S.")
    made = case(log, ScriptedGateway([slow]), call_timeout_s=300.0, max_total_s=max_total_s)
    with pytest.raises(LlmTooSlowError, match=re.escape(f"Raise {setting}")):
        ask(made)
    (failed,) = made.told("model_failed")
    assert f"Raise {setting}" in failed.message


def test_failures_count_as_calls_and_cost_what_was_billed(log: IncidentLog) -> None:
    made = case(log, ScriptedGateway([LlmUnavailableError("It is down.")]))
    with pytest.raises(LlmError) as caught:
        ask(made)
    assert caught.value.message == "It is down."
    (failed,) = made.told("model_failed")
    assert failed.message == "It is down. The result of the rules is used."
    assert failed.content["outcome"] == "llm_unavailable"
    assert asyncio.run(made.calls().spending()).calls == 1


class BusyGateway:
    """A gateway that has no free slot until `is_busy` is False."""

    def __init__(self) -> None:
        self.is_busy = True

    def complete(
        self,
        prompt: Prompt,  # noqa: ARG002 the seam's parameter
        schema: type[AnswerT],
        *,
        timeout_s: float | None = None,  # noqa: ARG002 the seam's parameter
        billed: Billed | None = None,
    ) -> AnswerT:
        """Raise `LlmBusyError` while the gateway is busy, else return an answer."""
        if self.is_busy:
            raise LlmBusyError("No slot became free.")
        if billed is not None:
            billed(Spent(1, 10, 1, 0.0))
        return schema.model_validate(ANSWER)


def test_call_without_a_free_slot_does_not_use_up_the_number_of_calls(log: IncidentLog) -> None:
    gateway = BusyGateway()
    made = case(log, gateway, max_calls=1)
    for _ in range(2):
        with pytest.raises(LlmBusyError):
            ask(made)
    gateway.is_busy = False

    ask(made)

    assert [event.message for event in made.told("model_asked")] == ["Calling the model: call 1 of at most 1."] * 3
    found = asyncio.run(made.calls().spending())
    assert (found.calls, found.tokens, found.requested) == (1, 11, 3)
    assert found.took_s == sum(event.content["took_s"] for event in made.told("model_failed", "model_answered"))
    assert refusal(made).startswith("The model is not called: 1 calls are allowed for an incident.")


def test_unfinished_call_counts_with_its_maximum_cost(log: IncidentLog) -> None:
    has_come, going = threading.Event(), threading.Event()

    def think(_incident: dict[str, Any]) -> Mapping[str, Any]:
        has_come.set()
        going.wait(10)
        return ANSWER

    async def cancelled() -> None:
        task = asyncio.create_task(made.investigate())
        await asyncio.to_thread(has_come.wait, 10)
        task.cancel()
        await asyncio.wait([task])

    made = case(log, ThinkingGateway(think))
    asyncio.run(cancelled())
    going.set()
    found = asyncio.run(made.calls().spending())
    assert found == Spending(1, found.tokens, 20.0, 0.0, requested=1)
    assert found.tokens > 1_024


def test_two_concurrent_calls_are_both_counted(log: IncidentLog) -> None:
    made = case(log, ScriptedGateway([ANSWER] * 9), max_calls=3)

    async def all_at_once() -> list[Any]:
        wanted = (made.calls().ask(PROMPT) for _ in range(6))
        return await asyncio.gather(*wanted, return_exceptions=True)

    found = asyncio.run(all_at_once())
    assert all(isinstance(item, LlmBudgetExceededError) for item in found if isinstance(item, Exception))
    assert 1 <= sum(not isinstance(item, Exception) for item in found) <= 3
    numbers = [event.content["number"] for event in made.told("model_asked")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) <= 3


def test_call_interrupted_by_a_kill_is_counted_once(tmp_path: Path) -> None:
    with a_log(tmp_path) as log:
        made = case(log, named("leak", "pool.fullest_pct"), max_calls=1)
        with forked("support.incidents.model_child", str(tmp_path), made.incident_id) as process:
            assert read_line(process) == "asked"
            process.kill()
            assert process.wait(10) == -9
        assert spending_of(log.read_after(made.incident_id)).calls == 1
        found = asyncio.run(made.investigate())
        # The interrupted call counts, although its answer was lost, and the rules continue.
        assert len(made.told("model_asked")) == 1
        assert made.told("model_not_asked") != []
        assert found.best.cause == "leak"
        assert found.best.probability < 0.5
