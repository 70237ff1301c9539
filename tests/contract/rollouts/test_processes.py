"""A service whose processes each keep the flag in their own memory, behind one address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

import pytest
import yaml

from relab.rollouts.errors import FlagsChangedError, FlagsNotAppliedError
from relab.rollouts.execution.flag_switch import FlagSwitch
from relab.rollouts.execution.restoring import restore_flags
from relab.rollouts.plans.reading import parse_plan
from relab.rollouts.plans.subject import HttpFlagSubject
from relab.rollouts.record import OpenChange
from relab.rollouts.targets.http_flag import HttpFlagTarget
from relab.rollouts.targets.protocol import FlagState, change_flags
from support.rollouts.rollout_lab import RolloutLab


class Processes(ThreadingHTTPServer):
    """The service: requests of one method reach its processes in turn.

    Attributes:
        values: the value of the flag in the memory of each process.
        most: the greatest value that a process keeps; it replaces a greater one by this.
        reads: number of GET requests so far.
    """

    def __init__(self, values: list[Any]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.values = values
        self.most = 1_000
        self.reads = 0
        self._turns = {"GET": count(), "PUT": count()}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/flag"

    def process_of(self, method: str) -> int:
        with self._lock:
            self.reads += method == "GET"
            return next(self._turns[method]) % len(self.values)


class _Handler(BaseHTTPRequestHandler):
    server: Processes

    def do_GET(self) -> None:
        self._answer({"value": self.server.values[self.server.process_of("GET")]})

    def do_PUT(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.values[self.server.process_of("PUT")] = min(wanted, self.server.most)
        self._answer({})

    def _answer(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Print nothing."""


@pytest.fixture
def processes() -> Iterator[Processes]:
    with Processes([10, 10, 10, 10]) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def target_of(processes: Processes, **fields: Any) -> HttpFlagTarget:
    subject = HttpFlagSubject(kind="http", url=processes.url, pointer="/value", b=20, **fields)
    return HttpFlagTarget(subject, {}, timeout_s=5.0)


def test_change_in_one_process_is_not_in_force(processes: Processes) -> None:
    with pytest.raises(FlagsNotAppliedError, match=r"not the same in all processes \(\d0 and \d0\)"):
        change_flags(target_of(processes), 20, within_s=0.0)


def test_restoration_reaches_every_process(processes: Processes) -> None:
    processes.values[1] = 20

    found = restore_flags(target_of(processes), OpenChange(inverse=10, values=[10, 20]), within_s=10.0)

    assert found.restored
    assert processes.values == [10, 10, 10, 10]


def test_restoration_leaves_a_value_of_another_client_in_one_process(processes: Processes) -> None:
    processes.values[1] = 77

    found = restore_flags(target_of(processes), OpenChange(inverse=10, values=[10, 20]), within_s=10.0)

    assert not found.restored
    assert processes.values == [10, 77, 10, 10]


def test_process_that_lost_the_change_is_noticed(processes: Processes) -> None:
    processes.values = [20, 20, 20, 10]

    with pytest.raises(FlagsChangedError, match="not the same in all processes"):
        FlagSwitch(target_of(processes), FlagState(20), within_s=1.0).check()


def test_first_read_and_reads_after_a_disagreement_are_thorough(processes: Processes) -> None:
    target = target_of(processes, reads=2)
    numbers = []
    for values in ([10, 10, 10, 10], [20, 10, 20, 10], [10, 10, 10, 10], [10, 10, 10, 10]):
        processes.values, processes.reads = values, 0
        target.read()
        numbers.append(processes.reads)

    assert numbers == [16, 2, 16, 2]


def test_single_read_is_possible(processes: Processes) -> None:
    target_of(processes, reads=1).read()

    assert processes.reads == 1


def run_on(lab: RolloutLab, processes: Processes) -> None:
    document = {
        "base_url": lab.service.url,
        "timeout": 3,
        "experiment": {"qps": 60, "window_sec": 0.25, "warmup_sec": 0.05, "rounds": 2, "mix": "browse"},
        "subject": {"flags": {"kind": "http", "url": processes.url, "pointer": "/value", "b": 20}},
    }
    lab.services.rollouts.run(
        parse_plan(yaml.safe_dump(document), "plan.yaml"),
        by="tester",
        stop=lab.stop,
        on_progress=lab.on_progress,
        root=lab.folder,
    )


def test_rollout_on_processes_without_a_shared_flag_restores_all_of_them(lab: RolloutLab, processes: Processes) -> None:
    with pytest.raises(FlagsNotAppliedError, match="not the same in all processes"):
        run_on(lab, processes)

    assert lab.last().flags_restored
    assert processes.values == [10, 10, 10, 10]


def test_value_that_one_process_has_reduced_is_restored(lab: RolloutLab, processes: Processes) -> None:
    processes.most = 15

    with pytest.raises(FlagsNotAppliedError, match="not the same in all processes"):
        run_on(lab, processes)

    assert lab.last().flags_restored
    assert processes.values == [10, 10, 10, 10]


def test_rollout_does_not_begin_while_processes_disagree(lab: RolloutLab, processes: Processes) -> None:
    processes.values = [10, 20, 10, 10]

    with pytest.raises(FlagsNotAppliedError) as raised:
        run_on(lab, processes)

    assert "Set them in all processes" in (raised.value.remedy or "")
    assert processes.values == [10, 20, 10, 10]
