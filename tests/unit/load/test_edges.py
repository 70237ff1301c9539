"""Alarms, targets, plans and the latency log of the load generator."""

from __future__ import annotations

import asyncio
import io
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import uvloop

from relab.load.alarm import Alarm, KernelAlarm, LoopAlarm
from relab.load.engine import reason_of
from relab.load.errors import PlanError, RemoteTargetError, UnreachableTargetError
from relab.load.hdr_log import write_hdr_log
from relab.load.models import Counts, Mix, RequestTemplate, Stage, Window, load_plan_json
from relab.load.recorder import LoadRecorder
from relab.load.service import built_in_mix, make_plan
from relab.load.target import PinnedResolver, Target, find_target

MS = 1_000_000
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="timerfd is Linux's")
ALARMS = [pytest.param(KernelAlarm, marks=LINUX), LoopAlarm]
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


async def ring(make: Callable[..., Alarm], delays_ms: list[float]) -> list[tuple[int, int]]:
    """Set an alarm for each delay once the previous one rang; return pairs of (requested, actual) times in ns."""
    loop = asyncio.get_running_loop()
    rung: asyncio.Queue[int] = asyncio.Queue()
    alarm = make(loop, lambda: rung.put_nowait(time.monotonic_ns()))
    found = []
    try:
        for delay_ms in delays_ms:
            at_ns = time.monotonic_ns() + int(delay_ms * MS)
            alarm.set(at_ns)
            found.append((at_ns, await rung.get()))
        assert rung.empty()
    finally:
        alarm.close()
        alarm.close()
    return found


@pytest.mark.parametrize("make", ALARMS)
@pytest.mark.parametrize("new_loop", LOOPS)
def test_an_alarm_rings_once_and_never_early(make: Callable[..., Alarm], new_loop: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        found = runner.run(ring(make, [5, 0.3, 0, -5, 1.2, 12]))

    assert all(rung_ns >= at_ns for at_ns, rung_ns in found)


@pytest.mark.parametrize("make", ALARMS)
@pytest.mark.parametrize("new_loop", LOOPS)
def test_alarm_can_be_reset_and_cancelled(make: Callable[..., Alarm], new_loop: Callable[[], Any]) -> None:
    async def play() -> list[int]:
        rung: list[int] = []
        first = make(asyncio.get_running_loop(), lambda: rung.append(1))
        second_rang = asyncio.Event()
        second = make(asyncio.get_running_loop(), second_rang.set)
        try:
            first.set(time.monotonic_ns() + 10 * MS)
            first.set(time.monotonic_ns() + 3_600_000 * MS)
            second.set(time.monotonic_ns() + 30 * MS)
            await second_rang.wait()
        finally:
            first.close()
            second.close()
        return rung

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(play()) == []


def test_remote_target_needs_permission_and_loopback_does_not() -> None:
    for url in ("http://127.0.0.1:8011", "http://127.9.9.9", "https://[::1]:1/x", "http://localhost"):
        target = asyncio.run(find_target(url, allow_remote=False))
        assert target.addresses
    assert asyncio.run(find_target("https://localhost", allow_remote=False)).port == 443
    for url in ("http://192.0.2.7", "http://0.0.0.0:80", "http://[2001:db8::1]/"):
        with pytest.raises(RemoteTargetError):
            asyncio.run(find_target(url, allow_remote=False))
        assert asyncio.run(find_target(url, allow_remote=True)).addresses
    with pytest.raises(UnreachableTargetError):
        asyncio.run(find_target(f"http://{'a' * 70}.invalid", allow_remote=True))


def test_error_names_the_remote_address_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.1", 80)), (*kind, ("192.0.2.7", 80))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(RemoteTargetError, match=r"192\.0\.2\.7"):
        asyncio.run(find_target("http://both.example", allow_remote=False))


def test_resolver_rejects_any_other_host() -> None:
    async def ask(host: str) -> list[str]:
        resolver = PinnedResolver(Target("shop", 80, ("127.0.0.1", "::1")))
        return [found["host"] for found in await resolver.resolve(host, 80)]

    assert asyncio.run(ask("shop")) == ["127.0.0.1", "::1"]
    with pytest.raises(OSError, match="elsewhere is not"):
        asyncio.run(ask("elsewhere"))


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"url": "ftp://h"}, "plan"),
        ({"url": "http://h:99999999"}, "plan"),
        ({"url": "http://h/?q=1"}, "plan"),
        ({"stages": []}, "stages"),
        ({"stages": [{"duration_s": 0, "rate_per_s": 1}]}, "stages.0.duration_s"),
        ({"stages": [{"duration_s": 1, "rate_per_s": float("inf")}]}, "stages.0.rate_per_s"),
        ({"stages": [{"duration_s": 1, "rate_per_s": 0}]}, "plan"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"retries": -1}, "retries"),
        ({"seed": -1}, "seed"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_invalid_plan_is_rejected_with_the_field(changed: dict[str, Any], field: str) -> None:
    fields = {"url": "http://127.0.0.1", "mix": built_in_mix("search"), "stages": [Stage(duration_s=1, rate_per_s=1)]}

    with pytest.raises(PlanError) as caught:
        make_plan(**{**fields, **changed})
    assert field in [name for name, _ in caught.value.problems]


def test_a_printed_plan_hides_the_values_of_headers() -> None:
    plan = make_plan(
        url="http://h", mix=built_in_mix("search"), stages=[Stage(duration_s=1, rate_per_s=1)], headers={"X": "secret"}
    )

    assert "secret" not in f"{load_plan_json(plan)} {plan!r}"


def test_printed_plan_hides_the_values_of_headers_in_its_mix() -> None:
    mix = Mix(requests=(RequestTemplate(name="a", path="/", headers={"Authorization": "secret"}),))
    plan = make_plan(url="http://h", mix=mix, stages=[Stage(duration_s=1, rate_per_s=1)])

    shown = load_plan_json(plan)

    assert shown["mix"]["requests"][0]["headers"] == {"Authorization": "(hidden)"}
    assert "secret" not in f"{shown} {plan!r}"


def test_failure_reason_is_the_error_name_of_the_system() -> None:
    assert reason_of(ConnectionResetError(104, "reset")) == "ECONNRESET"
    assert reason_of(aiohttp.ServerDisconnectedError()) == "disconnected"
    assert reason_of(aiohttp.ClientPayloadError()) == "answer_cut_off"
    assert reason_of(aiohttp.InvalidURL("x")) == "InvalidURL"


def test_log_has_the_start_and_length_of_each_window() -> None:
    recorder = LoadRecorder(["a"], window_ns=250 * MS, end_ns=400 * MS)
    entry = recorder.due(0, 0)
    recorder.sent(entry)
    recorder.ended(entry, 100 * MS, good=True)
    windows: list[Window] = list(recorder.close_all(400 * MS))
    file = io.StringIO()

    write_hdr_log(file, windows, started_at_us=1_700_000_000_500_000)

    lines = file.getvalue().splitlines()
    assert lines[1] == "#[StartTime: 1700000000.500 (seconds since epoch), Tue Nov 14 22:13:20 UTC 2023]"
    assert lines[4].startswith(f"0.000,0.250,{windows[0].latency.max_ms:.3f},HIST")
    assert lines[5].startswith("0.250,0.150,0.000,HIST")


def test_error_rate_is_a_share_of_finished_requests() -> None:
    assert Counts(good=3, bad=1, dropped=10).error_rate_pct == 25.0
    assert Counts(dropped=10).error_rate_pct is None
