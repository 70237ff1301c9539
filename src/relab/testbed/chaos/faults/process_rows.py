"""Catalogue rows of faults in the target's processes: symptoms, differences from look-alikes, and repairs."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from relab.testbed.chaos.models import Fault, Kind, Parameters, Symptom


class Growth(Parameters):
    """How fast each worker's memory grows at full intensity, and where it ends for the sake of the machine."""

    mb_per_s: float = Field(20.0, gt=0, le=500)
    limit_mb: int = Field(1_500, ge=64, le=16_384)


class Quota(Parameters):
    """How much of one processor each worker has at full intensity, in percent."""

    cpu_pct: float = Field(5.0, ge=1, le=90)


class Memory(Parameters):
    """How much memory a worker may use."""

    memory_mb: float = Field(48.0, ge=16, le=96)


HANG: Final = Fault(
    "hang", "Workers of the target were stopped", Kind.FAULT, Parameters,
    Symptom(
        "connections are accepted and never answered",
        "the process is there in the kernel's state `stopped` and uses no processor time",
        ("cpu_throttle", "crash_loop", "database_blackhole"),
    ),
    repairs=("resume-process", "restart-worker", "restart-target"),
    harms=("restart-database", "restart-cache"),
    can_vary=True,
)  # fmt: skip
MEMORY_LEAK: Final = Fault(
    "memory_leak", "The target's workers leak memory", Kind.FAULT, Growth,
    Symptom(
        "resident memory of the workers is large",
        "it grows steadily in one and the same process, whatever the traffic; nothing ends it but a restart",
        ("oom", "descriptors"),
    ),
    repairs=("restart-target", "restart-worker"),
    harms=("raise-limit", "restart-cache", "flush-cache"),
    can_vary=True,
)  # fmt: skip
DESCRIPTORS: Final = Fault(
    "descriptors", "The target's workers leak descriptors", Kind.FAULT, Parameters,
    Symptom(
        "connections to the target are cut, and it can make none of its own",
        "EMFILE in its log, the open descriptors of the process at their limit",
        ("hang", "db_connections", "database_refuse"),
    ),
    repairs=("restart-target", "restart-worker", "raise-limit"),
    harms=("restart-database", "restart-cache"),
)  # fmt: skip
THROTTLE: Final = Fault(
    "cpu_throttle", "The target's workers may use too little of the processor", Kind.FAULT, Quota,
    Symptom(
        "every route is slow",
        "the control group of the workers has a quota and counts throttled periods, a restart changes nothing",
        ("cpu_saturation", "hang", "db_slow_query"),
    ),
    repairs=("raise-limit",),
    harms=("restart-target", "restart-database"),
    needs=("cgroup",),
    can_vary=True,
)  # fmt: skip
OOM: Final = Fault(
    "oom", "The target's workers may use less memory than they need", Kind.FAULT, Memory,
    Symptom(
        "workers end again and again",
        "they end by SIGKILL (exit code -9), and the kernel counts processes killed for want of memory",
        ("crash_loop", "memory_leak"),
    ),
    repairs=("raise-limit",),
    harms=("restart-target", "restart-worker", "roll-back-settings"),
    needs=("cgroup",),
)  # fmt: skip
SEARCH_INDEX: Final = Fault(
    "search_index", "The index in the workers' memory has lost its vectors", Kind.FAULT, Parameters,
    Symptom(
        "searches fall back to the other index",
        "the index holds fewer vectors than there are products; the rules are as ever",
        ("bad_flags",),
    ),
    repairs=("restart-target", "restart-worker"),
    harms=("restart-database", "recreate-indexes", "flush-cache"),
)  # fmt: skip
