"""The process of load clients: it runs the plan of its last input line, and ends with its input or its parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from relab.load.models import LoadPlan, Stage
from relab.load.service import find_throughput, make_plan, single_request
from rig.load_servers import Behaviour, KnownServer, known_server
from rig.waiting import wait_until

COMMAND = [sys.executable, "-m", "relab.load.clients"]
HOLDER = """
import subprocess, sys, time
held = subprocess.Popen([sys.executable, "-m", "relab.load.clients"], stdin=subprocess.PIPE, text=True)
held.stdin.write(sys.argv[1] + "\\n")
held.stdin.flush()
print(held.pid, flush=True)
time.sleep(600)
"""


def plan_of(server: KnownServer, path: str, rate_per_s: float) -> LoadPlan:
    base, mix = single_request(server.url + path)
    return make_plan(url=base, mix=mix, stages=[Stage(duration_s=3_600, rate_per_s=rate_per_s)])


@contextmanager
def clients() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def paths(server: KnownServer) -> list[str]:
    return [str(row[1]) for row in server.truth().rows]


def test_new_plan_replaces_the_previous_one_and_end_of_input_ends_the_process() -> None:
    with known_server() as server, clients() as process:
        tell(process, plan_of(server, "/ok", 50).model_dump_json())
        wait_until(lambda: len(paths(server)) >= 5, what="requests of the first plan")

        tell(process, plan_of(server, "/status/201", 50).model_dump_json())
        wait_until(lambda: "/status/201" in paths(server), what="requests of the second plan")
        first = paths(server).count("/ok")
        seen = len(paths(server))
        wait_until(lambda: len(paths(server)) >= seen + 5, what="more requests")
        assert paths(server).count("/ok") == first

        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def is_silent(server: KnownServer, seconds: float) -> bool:
    before = len(paths(server))
    time.sleep(seconds)
    return len(paths(server)) == before


def test_null_plan_stops_the_requests() -> None:
    with known_server() as server, clients() as process:
        tell(process, plan_of(server, "/ok", 100).model_dump_json())
        wait_until(lambda: paths(server), what="requests")

        tell(process, "null")
        # At 100 requests per second, 0.3 s without a request cannot be chance.
        wait_until(lambda: is_silent(server, 0.3), what="silence")
        # The process reads the next line only after it has stopped the previous plan.
        tell(process, plan_of(server, "/status/201", 20).model_dump_json())
        wait_until(lambda: "/status/201" in paths(server), what="requests after the silence")


@pytest.mark.full
def test_invalid_plan_ends_the_process_with_a_reason() -> None:
    with clients() as process:
        _, told = process.communicate(json.dumps({"url": "ftp://nowhere", "mix": {}, "stages": []}) + "\n", timeout=30)

    assert process.returncode == 1
    assert "plan of the load is invalid" in told


@pytest.mark.full
def test_a_target_on_another_machine_ends_the_process_with_a_reason() -> None:
    base, mix = single_request("http://192.0.2.1/ok")
    plan = make_plan(url=base, mix=mix, stages=[Stage(duration_s=1, rate_per_s=1)])
    with clients() as process:
        tell(process, plan.model_dump_json())

        assert process.wait(30) == 1
        assert process.stderr is not None
        assert "another machine" in process.stderr.read()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills by POSIX signals")
def test_clients_end_when_their_parent_is_killed() -> None:
    with known_server() as server:
        plan = plan_of(server, "/ok", 50).model_dump_json()
        with subprocess.Popen([sys.executable, "-c", HOLDER, plan], stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            held = psutil.Process(int(holder.stdout.readline()))
            wait_until(lambda: paths(server), what="requests")

            os.kill(holder.pid, signal.SIGKILL)

            wait_until(lambda: not held.is_running() or held.status() == psutil.STATUS_ZOMBIE, what="their end")


@pytest.mark.full
def test_closed_loop_clients_measure_the_throughput_of_a_service() -> None:
    with known_server(Behaviour((20.0,))) as server:
        plan = plan_of(server, "/ok", 1)

        one, four = (find_throughput(plan, clients=number, seconds=1.0) for number in (1, 4))

    # One client gets at most one response every 20 ms.
    assert 0 < one.good_per_s <= 50
    assert one.good_per_s < four.good_per_s <= 200
    assert four.p95_ms is not None
    assert four.p95_ms >= 20


@pytest.mark.full
def test_rejected_requests_do_not_count_as_throughput() -> None:
    with known_server() as server:
        found = find_throughput(plan_of(server, "/status/503", 1), clients=2, seconds=0.2)

    assert found.good_per_s == 0
    assert found.p95_ms is None
