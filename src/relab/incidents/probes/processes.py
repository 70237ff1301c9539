"""Find facts about the service's processes by comparing two successive answers of their supervisor. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from relab.core.clock import parse_time
from relab.incidents.probes.json_paths import FactCollector, JsonValue, root_of
from relab.incidents.probes.models import Observation, ProbeResponse

TARGET: Final = "target"
"""The group that the target's workers belong to."""
_SERVERS: Final = ("database", "cache", "links")
_JOBS: Final = "jobs"
_YOUNG_S: Final = 10.0
"""How long a process that restarted automatically does not yet count as stable, in seconds."""
_MIB: Final = 1 << 20

PROCESS_FACTS: Final = (
    "asked.components", *(f"{name}.process" for name in _SERVERS),
    "processes.frozen", "processes.frozen.component", "workers.count", "workers.down", "workers.ending",
    "workers.restarting.component", "workers.memory_kills", "workers.largest_rss_mib", "workers.largest.component",
    "workers.largest.worker", "workers.growth_mib_per_s", "workers.growing.component", "workers.growing.worker",
    "workers.descriptors_pct", "workers.descriptors.component", "workers.descriptors.worker", "workers.throttled_per_s",
    "workers.throttled.component", "workers.memory_is_limited", "workers.memory_limit_mib", "volume.used_pct", "volume.free_bytes",
)  # fmt: skip
JOB_FACTS: Final = ("jobs.running", "jobs.competing_per_cpu", "jobs.processes", "jobs.priority", "jobs.component")


@dataclass(frozen=True, slots=True)
class _Worker:
    """A worker of the target, as the supervisor (the program that restarts workers) described it at two moments.

    Attributes:
        then: the worker in the supervisor's first answer to the probe.
        now: the worker in the supervisor's last answer to the probe.
    """

    name: str
    then: JsonValue
    now: JsonValue

    @property
    def is_same(self) -> bool:
        """Whether both answers of the supervisor show the same process, and the first answer shows it as ready."""
        pids = (self.then.at("pid").amount, self.now.at("pid").amount)
        return pids[0] is not None and pids[0] == pids[1] and self.then.at("ready_at").value is not None

    def grown(self, *keys: str) -> float | None:
        """Return the increase of a number of the worker from the supervisor's first answer to its last.

        Return None if one of the two answers lacks the number. `keys` is the path of field names to the number.
        """
        then, now = self.then.at(*keys).amount, self.now.at(*keys).amount
        return None if then is None or now is None else now - then


def read_processes(answers: Sequence[ProbeResponse], now_us: int) -> list[Observation]:
    """Return facts about the processes of the service.

    `answers` are the supervisor's answers, the earliest first. States and limits come from the last answer, growth
    rates from the difference between the first and the last.
    """
    found = FactCollector()
    last = len(answers) - 1
    if answers:
        absence = answers[last].absence
        found.see("asked.components", "answered" if absence is None else absence.value, root_of(answers, last))
    whole = root_of(answers, last)
    rows = whole.at("components").rows()
    if not rows:
        return found.sightings
    for group in _SERVERS:
        of_group = [row for row in rows if row.at("group").word == group]
        if of_group:
            worst = next((row for row in of_group if _state(row) != "running"), of_group[0])
            found.see(f"{group}.process", _state(worst), worst.at("state"))
    _read_frozen(found, rows, whole.at("components"))
    _read_volume(found, whole.at("volume"))
    workers = _workers(answers, rows)
    if workers:
        _read_endings(found, workers, whole.at("components"), now_us)
        elapsed_s = answers[last].at_s - answers[0].at_s if last > 0 else 0.0
        _read_sizes(found, workers)
        if elapsed_s > 0:
            _read_growth(found, workers, elapsed_s)
    return found.sightings


def _workers(answers: Sequence[ProbeResponse], rows: Sequence[JsonValue]) -> list[_Worker]:
    before = {row.at("name").word: row for row in root_of(answers, 0).at("components").rows()}
    return [
        _Worker(name, before.get(name, JsonValue(None)), row)
        for row in rows
        if row.at("group").word == TARGET and (name := row.at("name").word) is not None
    ]


def _state(row: JsonValue) -> str:
    """Return a component's state: `running`, `frozen` (stopped by a signal), `starting` or `gone`."""
    if row.at("process", "kernel_state").word in {"stopped", "traced"}:
        return "frozen"
    state = row.at("state").word
    return state if state in {"running", "starting"} else "gone"


def _read_frozen(found: FactCollector, rows: Sequence[JsonValue], place: JsonValue) -> None:
    frozen = [row for row in rows if _state(row) == "frozen"]
    found.see("processes.frozen", float(len(frozen)), place)
    if frozen:
        groups = {row.at("group").word for row in frozen}
        only = groups.pop() if len(frozen) > 1 and len(groups) == 1 else frozen[0].at("name").word
        found.see("processes.frozen.component", only, frozen[0].at("process", "kernel_state"))


def _read_volume(found: FactCollector, volume: JsonValue) -> None:
    free, whole = volume.at("free_bytes"), volume.at("total_bytes").amount
    found.amount("volume.free_bytes", free)
    if free.amount is not None and whole:
        found.see("volume.used_pct", max(100 * (1 - free.amount / whole), 0.0), free)


def _read_endings(found: FactCollector, workers: Sequence[_Worker], place: JsonValue, now_us: int) -> None:
    """Add facts about all workers to `found`: how many are down, why they ended, and whether their memory is limited.

    Args:
        found: collects the facts.
        workers: the workers, each with its values in the supervisor's first and last answer to the probe.
        place: the JSON value that is cited as evidence for the facts about all workers together.
        now_us: the current time, in microseconds since 1970.
    """
    found.see("workers.count", float(len(workers)), place)
    found.see("workers.down", float(sum(_state(worker.now) not in {"running", "frozen"} for worker in workers)), place)
    found.see(
        "workers.memory_kills", sum(worker.now.at("counted", "oom_kills").amount or 0.0 for worker in workers), place
    )
    restless = [worker for worker in workers if _is_restless(worker, now_us)]
    if restless:
        found.see("workers.ending", _ending(restless[0].now), restless[0].now.at("exits"))
    elif all(_state(worker.now) in {"running", "frozen"} for worker in workers):
        # While a worker is starting, it is not known yet whether it will stay.
        found.see("workers.ending", "none", place)
    if restless:
        only = restless[0].name if len(restless) == 1 else TARGET
        found.see("workers.restarting.component", only, restless[0].now.at("exits"))
    limits = [worker.now.at("limits", "memory_mb") for worker in workers]
    known = [(amount, limit) for limit in limits if (amount := limit.amount)]
    found.see("workers.memory_is_limited", bool(known), known[0][1] if known else limits[0])
    if known:
        least, limit = min(known, key=lambda item: item[0])
        found.see("workers.memory_limit_mib", least, limit)


def _is_restless(worker: _Worker, now_us: int) -> bool:
    if not worker.now.at("restarts").amount and not worker.now.at("exits").value:
        return False
    if worker.now.at("state").word == "waiting" or worker.then.at("state").word == "waiting":
        return True
    if not worker.now.at("restarts").amount or _state(worker.now) == "frozen":
        return False
    # `restarts` counts automatic restarts only; a requested one changes just `started_at`, and is not a failure.
    started_us = _time_of(worker.now.at("started_at"))
    return started_us is not None and 0 <= now_us - started_us <= _YOUNG_S * 1_000_000


def _ending(row: JsonValue) -> str:
    exits = row.at("exits").value
    codes = [code for code in exits if isinstance(code, int)] if isinstance(exits, list) else []
    if not codes or codes[-1] == 0:
        return "by_itself"
    if codes[-1] > 0:
        return "by_error"
    return "killed_for_memory" if row.at("counted", "oom_kills").amount else "killed"


def _read_sizes(found: FactCollector, workers: Sequence[_Worker]) -> None:
    sizes = [
        (amount, worker) for worker in workers if (amount := worker.now.at("process", "rss_bytes").amount) is not None
    ]
    if sizes:
        size, worker = max(sizes, key=lambda item: item[0])
        found.see("workers.largest_rss_mib", size / _MIB, worker.now.at("process", "rss_bytes"))
        _name(found, "workers.largest", worker)
    shares = []
    for worker in workers:
        used, most = (
            worker.now.at("process", "descriptors").amount,
            worker.now.at("process", "descriptors_limit").amount,
        )
        if used is not None and most:
            shares.append((min(100 * used / most, 100.0), worker))
    if shares:
        share, worker = max(shares, key=lambda item: item[0])
        found.see("workers.descriptors_pct", share, worker.now.at("process", "descriptors"))
        _name(found, "workers.descriptors", worker)


def _read_growth(found: FactCollector, workers: Sequence[_Worker], elapsed_s: float) -> None:
    grown = [
        (more, item) for item in workers if item.is_same and (more := item.grown("process", "rss_bytes")) is not None
    ]
    if grown:
        more, worker = max(grown, key=lambda item: item[0])
        found.see("workers.growth_mib_per_s", max(more, 0.0) / _MIB / elapsed_s, worker.now.at("process", "rss_bytes"))
        _name(found, "workers.growing", worker)
    throttled = [(worker.grown("counted", "throttled_periods") or 0.0, worker) for worker in workers]
    most, worker = max(throttled, key=lambda item: item[0])
    found.see("workers.throttled_per_s", max(most, 0.0) / elapsed_s, worker.now.at("counted", "throttled_periods"))
    if most > 0:
        found.see("workers.throttled.component", worker.name, worker.now.at("counted", "throttled_periods"))


def _name(found: FactCollector, of: str, worker: _Worker) -> None:
    place = worker.now.at("name")
    found.see(f"{of}.component", worker.name, place)
    number = worker.name.rpartition("-")[2]
    found.see(f"{of}.worker", number if number.isdecimal() and number.isascii() else None, place)


def _time_of(place: JsonValue) -> int | None:
    try:
        return parse_time(place.text) if place.text else None
    except ValueError:
        return None


def read_jobs(answers: Sequence[ProbeResponse], _now_us: int) -> list[Observation]:
    """Return facts about a batch job beside the service: whether it runs, its number of processes, and its priority.

    `answers` has two responses: first the supervisor's list of components, then the log of the job.
    """
    found = FactCollector()
    rows, kernel = root_of(answers, 0).at("components").rows(), root_of(answers, 0).at("kernel")
    if not rows:
        return found.sightings
    active_rows = [row for row in rows if row.at("group").word == _JOBS and _state(row) in {"running", "starting"}]
    started = _last_start(root_of(answers, 1).at("lines")) if active_rows else None
    place = root_of(answers, 0).at("components")
    found.see("jobs.running", bool(active_rows), active_rows[0].at("state") if active_rows else place)
    if active_rows:
        found.word("jobs.component", active_rows[0].at("name"))
    if started is None:
        # A job logs its start and its end, so without a start that is not done, no job competes.
        found.see("jobs.competing_per_cpu", 0.0, place)
        return found.sightings
    processes, priority = started.at("processes"), started.at("priority")
    found.amount("jobs.processes", processes)
    found.see("jobs.priority", priority.number, priority)
    cpus = kernel.at("cpus").amount
    if processes.amount is not None and priority.number is not None and cpus:
        found.see("jobs.competing_per_cpu", 0.0 if priority.number > 0 else processes.amount / cpus, processes)
    return found.sightings


def _last_start(lines: JsonValue) -> JsonValue | None:
    """Return the log line about the start of the batch job that runs now; None if no job runs.

    Args:
        lines: the log lines of the job, the earliest first.
    """
    begun: JsonValue | None = None
    for line in lines.rows():
        event = line.at("event").word
        if event == "job_started":
            begun = line
        elif event == "job_done":
            begun = None
    return begun
