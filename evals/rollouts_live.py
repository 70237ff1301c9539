"""Roll out changes on the testbed's shop under overload: a real improvement, no change, and a harmful change.

python -m evals.rollouts_live                     # ten of each; continues where an earlier call ended
python -m evals.rollouts_live --count 3 --kinds better --results results.jsonl

A *better* rollout turns the limiter on, a *same* one leaves it off in both arms, a *worse* one turns it off. Expected is
that the first passes and is applied, the second is valid and not applied, and the third fails; the flags of the last two
must be as before. INVALID and errors are never as expected. Rejections of the limiter count as answers (`expect: [503]`),
because shedding load is what is rolled out; time-outs count as failures.

The load is a multiple of the highest capacity measured so far. Measured anew for each rollout, it would be no overload
when a machine that was busy before the rollout becomes free during it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from relab.bootstrap import Services, build
from relab.core.errors import RelabError
from relab.load.models import Stage
from relab.load.service import find_throughput, make_plan, parse_mix
from relab.rollouts.service import Plan, parse_plan
from relab.settings import load_settings
from relab.testbed import service

NAME = "rollouts-live"
WINDOW_FIELDS = {"arm", "completed", "bad", "p95_ms", "lag_p99_ms"}
OVERLOAD = 1.6
"""The load as a multiple of the measured capacity."""
MIX = """
values:
  product_id: {kind: integer, low: 1, high: 5000}
requests:
  - name: order
    method: POST
    path: /api/v1/orders
    body: {product_id: "{product_id}", quantity: 1, customer: bench}
    expect: [409, 503]
"""
ON = {"control": {"policy": "aimd", "max_concurrency": 32, "target_p95_ms": 150.0,
                  "enabled_actuators": ["concurrency", "batch_size"]}}  # fmt: skip
OFF: dict[str, Any] = {"control": {"enabled_actuators": []}}


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of rollout: the flags before it, the flow control of arm B, and a test for the expected result."""

    before: dict[str, Any]
    flow: dict[str, Any]
    is_right: Callable[[dict[str, Any]], bool]


LIMITER = {"flow_policy": "aimd", "conc_cap": 32, "target_p95": 150.0}
KINDS = {
    "better": Kind(OFF, LIMITER, lambda row: row["verdict"] == "PASS" and row["applied"]),
    "same": Kind(OFF, {"flow_policy": "off"}, lambda row: row["verdict"] in {"EDGE", "FAIL"} and row["as_before"]),
    "worse": Kind(ON, {"flow_policy": "off"}, lambda row: row["verdict"] == "FAIL" and row["as_before"]),
}


def plan_for(url: str, kind: Kind, qps: float, folder: Path, seed: int) -> Plan:
    mix = folder / "mix.yaml"
    mix.write_text(MIX)
    document = {
        "base_url": url,
        "experiment": {
            "qps": qps, "window_sec": 2.5, "warmup_sec": 1.0, "rounds": 8, "seed": seed, "mix": str(mix),
            "max_in_flight": 5_000, "request_timeout": 3.0, "routing_mode": "keep", **kind.flow,
        },
        "thresholds": {"max_error_rate": 5.0},
    }  # fmt: skip
    return parse_plan(yaml.safe_dump(document), "plan")


def roll_out(services: Services, url: str, name: str, qps: float, folder: Path, seed: int) -> dict[str, Any]:
    """Roll out one change and return its row of results."""
    kind = KINDS[name]
    httpx.post(f"{url}/ops/flags", json=kind.before, timeout=30, trust_env=False).raise_for_status()
    before = flags_of(url)
    row: dict[str, Any] = {"kind": name, "seed": seed, "qps": qps, "verdict": "error", "applied": False}
    try:
        record = services.rollouts.run(
            plan_for(url, kind, qps, folder, seed),
            by="evaluation",
            stop=threading.Event(),
            on_progress=lambda _: None,
            root=folder,
        )
    except RelabError as error:
        row["reason"] = str(error)
    else:
        judgement = record.judgement
        assert judgement is not None
        row["verdict"] = judgement.verdict.value
        row |= judgement.model_dump(mode="json", include={"reason", "warnings", "delta_p95", "window_sd_pct"})
        row["windows"] = [window.model_dump(mode="json", include=WINDOW_FIELDS) for window in record.windows]
        row["applied"] = record.application is not None and record.application.applied
    row["as_before"] = flags_of(url) == before
    row["right"] = kind.is_right(row)
    return row


def flags_of(url: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{url}/api/flags", timeout=30, trust_env=False).json()
    return {name: found[name] for name in ("control", "routing")}


def capacity(url: str) -> float:
    """Return the highest number of orders per second that closed-loop clients get."""
    httpx.post(f"{url}/ops/flags", json=OFF, timeout=30, trust_env=False).raise_for_status()
    plan = make_plan(url=url, mix=parse_mix(MIX, "mix"), stages=[Stage(duration_s=1, rate_per_s=1)])
    return max(find_throughput(plan, clients=clients, seconds=2.0).good_per_s for clients in (4, 16))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m evals.rollouts_live", description=__doc__)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--kinds", nargs="+", choices=sorted(KINDS), default=sorted(KINDS))
    parser.add_argument("--results", type=Path, default=Path("rollouts_live.jsonl"))
    parser.add_argument("--port-base", type=int, default=26_500)
    args = parser.parse_args()
    rows = [json.loads(line) for line in args.results.read_text().splitlines()] if args.results.exists() else []
    with tempfile.TemporaryDirectory(prefix="rollouts-") as folder:
        home = Path(folder)
        services = build(load_settings(home))
        services.prepare()
        started = service.up(home, NAME, port_base=args.port_base, start_within_s=90)
        try:
            url = started.state.addresses.target
            for seed in range(1, args.count + 1):
                for name in args.kinds:
                    if any(row["kind"] == name and row["seed"] == seed for row in rows):
                        continue
                    measured = capacity(url)
                    qps = round(OVERLOAD * max([measured, *(row["capacity"] for row in rows)]), 1)
                    rows.append({**roll_out(services, url, name, qps, home, seed), "capacity": measured})
                    with args.results.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(json.dumps(rows[-1]), flush=True)
        finally:
            service.down(home, NAME)
            services.close()
    for name in args.kinds:
        found = [row for row in rows if row["kind"] == name]
        verdicts = ", ".join(
            f"{number} {verdict}" for verdict, number in Counter(row["verdict"] for row in found).items()
        )
        print(f"{name}: {sum(row['right'] for row in found)} of {len(found)} as expected ({verdicts})")


if __name__ == "__main__":
    main()
