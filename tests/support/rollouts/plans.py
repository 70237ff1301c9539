"""Plans of rollouts that end within seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from relab.flags.models import ServiceFlags
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.reading import parse_plan

CONC_CAP = 4
"""The limit of arm B; that of arm A is the default of the flags, 32."""


def plan_document(url: str, folder: Path, **fields: Any) -> dict[str, Any]:
    """Return a plan for a small service: two short rounds, which never pass. `experiment__x` sets a field."""
    mix = folder / "mix.yaml"
    mix.write_text("requests:\n  - {name: work, path: /work}\n")
    document: dict[str, Any] = {
        "base_url": url,
        "timeout": 2,
        "experiment": {
            "qps": 60,
            "window_sec": 0.25,
            "warmup_sec": 0.05,
            "rounds": 2,
            "order": "abab",
            "mix": str(mix),
            "request_timeout": 2,
            "flow_policy": "fixed",
            "conc_cap": CONC_CAP,
            "routing_mode": "keep",
        },
        "report": {
            "output_path": str(folder / "reports" / "summary.txt"),
            "history_path": str(folder / "state" / "history.jsonl"),
        },
    }
    for name, value in fields.items():
        section, _, field = name.partition("__")
        if field:
            document.setdefault(section, {})[field] = value
        else:
            document[section] = value
    return document


def small_plan(url: str, folder: Path, **fields: Any) -> Plan:
    """Return the plan of `plan_document`."""
    return parse_plan(yaml.safe_dump(plan_document(url, folder, **fields)), "plan.yaml")


def faster_b(flags: ServiceFlags) -> float:
    """Return a latency in seconds that is much higher in arm A, so that the noise of a busy machine does not matter."""
    return 0.005 if flags.control.max_concurrency == CONC_CAP else 0.3


def slower_b(flags: ServiceFlags) -> float:
    """Return a latency in seconds that is much higher in arm B, so that the noise of a busy machine does not matter."""
    return 0.3 if flags.control.max_concurrency == CONC_CAP else 0.005
