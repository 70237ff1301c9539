"""A process of load clients ends when its load cannot be sent."""

from __future__ import annotations

import threading

import pytest

from relab.load import clients
from relab.load.clients import Clients
from relab.load.service import built_in_mix, make_plan


def test_unexpected_error_of_the_load_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons: list[str] = []

    def fail(plan: object, *, stop: threading.Event) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(clients, "run_load", fail)
    monkeypatch.setattr(clients, "_fail", reasons.append)
    running = Clients()
    stages = [{"duration_s": 1, "rate_per_s": 1}]
    running.become(make_plan(url="http://127.0.0.1:1", mix=built_in_mix("browse"), stages=stages))
    running.become(None)

    assert reasons == ["OSError: [Errno 24] Too many open files"]
