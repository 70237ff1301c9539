"""Ctrl-C, SIGTERM and SIGHUP in a block of a command."""

from __future__ import annotations

import signal

import pytest

from relab.cli.stopping import interruptible, stoppable

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_only_the_first_signal_interrupts_a_block(number: signal.Signals) -> None:
    kept = [signal.getsignal(each) for each in SIGNALS]

    with interruptible():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        # The clean-up after the interruption runs to its end.
        for each in SIGNALS:
            signal.raise_signal(each)

    assert [signal.getsignal(each) for each in SIGNALS] == kept


@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGHUP], ids=lambda number: number.name)
def test_signal_sets_the_stop_event_of_a_block(number: signal.Signals) -> None:
    kept = signal.getsignal(number)

    with stoppable() as stop:
        signal.raise_signal(number)
        # A second signal must not end the clean-up.
        signal.raise_signal(number)

        assert stop.is_set()
    assert signal.getsignal(number) == kept


def test_process_that_nohup_started_ignores_the_end_of_its_terminal() -> None:
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable() as stop:
            signal.raise_signal(signal.SIGHUP)

            assert not stop.is_set()
    finally:
        signal.signal(signal.SIGHUP, kept)
