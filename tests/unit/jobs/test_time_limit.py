"""The time limit: interrupts a block that runs too long, even if the block swallows the interruption."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import pytest

from relab.jobs import time_limit as module
from relab.jobs.errors import JobTimeoutError
from relab.jobs.time_limit import time_limit

NEVER = threading.Event()
FOR_EVER_S = 30.0


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """Assert that the test leaves no alarm behind; pytest's own time limit is paused meanwhile."""
    handler, timer = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is handler
    signal.setitimer(signal.ITIMER_REAL, *timer)


def test_block_within_its_limit_is_left_alone() -> None:
    with time_limit(FOR_EVER_S):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0


def test_block_over_its_limit_is_interrupted() -> None:
    with pytest.raises(JobTimeoutError), time_limit(0.05):
        NEVER.wait(FOR_EVER_S)


def test_error_of_the_cleanup_does_not_hide_the_time_limit() -> None:
    def interrupted() -> None:
        try:
            NEVER.wait(FOR_EVER_S)
        finally:
            raise OSError("The connection is busy.")

    with pytest.raises(JobTimeoutError) as caught, time_limit(0.05):
        interrupted()

    assert isinstance(caught.value.__cause__, OSError)


def test_error_before_the_limit_is_passed_on() -> None:
    with pytest.raises(OSError, match="busy"), time_limit(FOR_EVER_S):
        raise OSError("The connection is busy.")


def test_block_that_swallows_the_interruption_is_interrupted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPEAT_S", 0.05)

    def swallowing() -> None:
        with contextlib.suppress(KeyboardInterrupt):
            NEVER.wait(FOR_EVER_S)
        NEVER.wait(FOR_EVER_S)

    with pytest.raises(JobTimeoutError), time_limit(0.05):
        swallowing()


def test_outer_limit_continues_after_the_inner_block() -> None:
    def inner_block() -> None:
        with pytest.raises(JobTimeoutError, match=r"0\.05 s"), time_limit(0.05):
            NEVER.wait(FOR_EVER_S)
        NEVER.wait(FOR_EVER_S)

    with pytest.raises(JobTimeoutError, match=" 1 s"), time_limit(1):
        inner_block()
