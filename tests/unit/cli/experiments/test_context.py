"""Signals that stop a run: the terminal of the command is closed."""

from __future__ import annotations

import os
import signal

import pytest

from relab.cli.experiments.context import stoppable_run


def test_output_after_the_terminal_was_closed_is_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = os.openpty()
    with os.fdopen(slave, "w", buffering=1) as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        with stoppable_run() as stop:
            os.close(master)
            signal.raise_signal(signal.SIGHUP)
            print("written after the end", file=terminal)

    assert stop.finish.is_set()
    assert not stop.now.is_set()


def test_command_under_nohup_goes_on_when_the_terminal_is_closed() -> None:
    kept = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable_run() as stop:
            signal.raise_signal(signal.SIGHUP)

        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, kept)
    assert not stop.finish.is_set()
