"""The model budget: no order of calls and no number of threads exceeds its limits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relab.bootstrap import Services
from relab.llm import Budget, BudgetLimits, LangChainGateway, LlmBudgetExceededError, Spent, TokenUsage
from support.clocks import MovableClock


@pytest.mark.parametrize(
    ("limits", "fits", "exceeds"),
    [
        ({"max_prompt_tokens": 100}, (100, 5_000), (1, 0)),
        ({"max_completion_tokens": 100}, (5_000, 100), (0, 1)),
        (
            {"max_usd": 0.5, "prompt_usd_per_million": 1_000, "completion_usd_per_million": 4_000},
            (100, 100),
            (1, 0),
        ),
        ({"max_calls": 1}, (1, 1), (0, 0)),
    ],
    ids=["prompt", "completion", "usd", "calls"],
)
def test_each_limit_is_reached_exactly(
    limits: dict[str, float], fits: tuple[int, int], exceeds: tuple[int, int]
) -> None:
    budget = Budget(BudgetLimits.model_validate(limits))
    budget.reserve(*fits)
    before = budget.spent()

    with pytest.raises(LlmBudgetExceededError):
        budget.reserve(*exceeds)

    assert budget.spent() == before


def test_settled_call_releases_unused_tokens() -> None:
    budget = Budget(BudgetLimits(max_completion_tokens=1_000))
    charge = budget.reserve(10, 1_000)
    budget.settle(charge, TokenUsage(prompt_tokens=12, completion_tokens=300))

    budget.reserve(0, 700)

    assert budget.spent() == Spent(calls=2, prompt_tokens=12, completion_tokens=1_000, usd=None)


def test_money_is_counted_by_both_prices() -> None:
    budget = Budget(BudgetLimits(prompt_usd_per_million=2.0, completion_usd_per_million=8.0))
    budget.settle(budget.reserve(0, 0), TokenUsage(prompt_tokens=500_000, completion_tokens=250_000))

    assert budget.spent().usd == pytest.approx(3.0)


def test_a_window_frees_the_budget_when_its_oldest_call_leaves_it() -> None:
    clock = MovableClock()
    budget = Budget(BudgetLimits(max_calls=2, window_s=60), uptime_us=clock.now_us)
    budget.reserve(1, 1)
    clock.move(20)
    budget.reserve(1, 1)
    clock.move(39.5)

    with pytest.raises(LlmBudgetExceededError) as caught:
        budget.reserve(1, 1)
    assert caught.value.retry_after_s == 1

    clock.move(0.5)
    budget.reserve(1, 1)
    assert budget.spent().calls == 2


def test_a_budget_without_a_window_never_frees_itself() -> None:
    clock = MovableClock()
    budget = Budget(BudgetLimits(max_calls=1), uptime_us=clock.now_us)
    budget.reserve(1, 1)
    clock.move(10_000_000)

    with pytest.raises(LlmBudgetExceededError) as caught:
        budget.reserve(1, 1)

    assert caught.value.retry_after_s is None


def test_call_settled_after_its_window_changes_nothing() -> None:
    clock = MovableClock()
    budget = Budget(BudgetLimits(window_s=60), uptime_us=clock.now_us)
    charge = budget.reserve(100, 100)
    clock.move(61)
    assert budget.spent() == Spent(0, 0, 0, 0.0)

    budget.settle(charge, TokenUsage(7, 7))

    assert budget.spent() == Spent(0, 0, 0, 0.0)


@given(
    calls=st.lists(
        st.tuples(
            st.integers(0, 60),
            st.integers(0, 50),
            st.integers(0, 50),
            st.none() | st.tuples(st.integers(0, 50), st.integers(0, 50)),
        ),
        max_size=40,
    )
)
def test_spent_amounts_equal_a_recount_of_the_window(
    calls: list[tuple[int, int, int, tuple[int, int] | None]],
) -> None:
    clock = MovableClock()
    budget = Budget(BudgetLimits(max_prompt_tokens=200, window_s=100), uptime_us=clock.now_us)
    accepted: list[tuple[int, int, int]] = []
    for wait_s, prompt_tokens, completion_tokens, used in calls:
        clock.move(wait_s)
        try:
            charge = budget.reserve(prompt_tokens, completion_tokens)
        except LlmBudgetExceededError:
            continue
        if used is not None:
            budget.settle(charge, TokenUsage(min(used[0], prompt_tokens), used[1]))
        accepted.append((clock.us, charge.prompt_tokens, charge.completion_tokens))

        live = [entry for entry in accepted if entry[0] > clock.us - 100_000_000]
        spent = budget.spent()
        assert spent.calls == len(live)
        assert spent.prompt_tokens == sum(entry[1] for entry in live)
        assert spent.completion_tokens == sum(entry[2] for entry in live)
        assert spent.prompt_tokens <= 200


def test_window_ends_in_time_although_the_clock_of_the_machine_is_set_back(
    make_services: Callable[..., Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    uptime_us = 5_000_000
    times = SimpleNamespace(monotonic_ns=lambda: 1_000 * uptime_us, time_ns=lambda: 10**18)
    monkeypatch.setattr("relab.core.clock.time", times)
    gateway = make_services(openai_api_key="key", llm={"max_calls_per_hour": 1}).gateway
    assert isinstance(gateway, LangChainGateway)
    budget = gateway._budget
    budget.reserve(1, 1)
    times.time_ns = lambda: 0
    with pytest.raises(LlmBudgetExceededError):
        budget.reserve(1, 1)
    uptime_us += 3_601_000_000

    budget.reserve(1, 1)


class MeetingLimits(BudgetLimits):
    """Limits whose check waits for a second thread, at most 0.2 s, so that two checks overlap."""

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        with contextlib.suppress(threading.BrokenBarrierError):
            MEETING.wait(timeout=0.2)
        return super().usd(prompt_tokens, completion_tokens)


MEETING = threading.Barrier(2)


def test_concurrent_threads_cannot_exceed_the_budget() -> None:
    MEETING.reset()
    budget = Budget(MeetingLimits(max_calls=1))
    outcomes: list[str] = []

    def spend() -> None:
        try:
            budget.reserve(1, 1)
        except LlmBudgetExceededError:
            outcomes.append("refused")
        else:
            outcomes.append("accepted")

    threads = [threading.Thread(target=spend) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["accepted", "refused"]


def test_limit_in_usd_needs_both_prices() -> None:
    with pytest.raises(ValidationError, match="prompt_usd_per_million"):
        BudgetLimits(max_usd=1.0, prompt_usd_per_million=1.0)


@pytest.mark.parametrize("window_s", [None, 60.0])
def test_cancelled_reservation_counts_no_more(window_s: float | None) -> None:
    clock = MovableClock()
    budget = Budget(BudgetLimits(max_calls=2, window_s=window_s), uptime_us=clock.now_us)
    kept, cancelled = budget.reserve(10, 20), budget.reserve(10, 20)

    budget.cancel(cancelled)
    assert budget.spent() == Spent(1, 10, 20, None)
    budget.settle(kept, TokenUsage(1, 2))
    budget.reserve(10, 20)
    with pytest.raises(LlmBudgetExceededError):
        budget.reserve(0, 0)
    clock.move(61)
    assert budget.spent().calls == (2 if window_s is None else 0)


def test_reservation_that_has_left_the_window_can_be_cancelled() -> None:
    clock = MovableClock()
    budget = Budget(BudgetLimits(window_s=1.0), uptime_us=clock.now_us)
    charge = budget.reserve(10, 20)
    clock.move(2)
    assert budget.spent() == Spent(0, 0, 0, 0.0)

    budget.cancel(charge)
    assert budget.spent() == Spent(0, 0, 0, 0.0)
