"""Ctrl-C and SIGTERM in a block of a command."""

from __future__ import annotations

import signal

import pytest

from relab.cli.stopping import interruptible

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
