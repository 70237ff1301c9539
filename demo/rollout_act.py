"""The third act: a throttle was left in the shop, and a rollout lifts it, because measured windows show the gain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from rich import box
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from demo.broken_shop import a_shop
from demo.lab_server import end_process, impatience_ignored, server_environment
from demo.report_view import as_data
from relab.testbed.scoring.testbeds import LeasedTestbed

THROTTLE: Final[dict[str, Any]] = {
    "control": {
        "policy": "fixed",
        "max_concurrency": 1,
        "target_p95_ms": 4.0,
        "enabled_actuators": ["concurrency", "batch_size"],
    }
}
"""Each worker serves one request at a time, and rejects a request that would wait for longer than 1 ms."""
LIFTED: Final = {"flow_policy": "fixed", "conc_cap": 64, "target_p95": 4_000.0}
"""A limit that the load of the rollout does not reach; requests may wait for 1 s."""
TIMEOUT_S: Final = 240.0
VERDICT_CODES: Final = frozenset({0, 1, 2})
"""Exit codes of `lab rollout run` for PASS, FAIL, and EDGE or INVALID."""
TOKEN_VARIABLE: Final = "ROLLOUT_SHOP_TOKEN"
_ANSWER_S: Final = 30.0
_REPORT: Final = "LAB_COMBO_REPORT"


@dataclass(frozen=True)
class RolloutEnd:
    """How the rollout ended.

    Attributes:
        code: exit code of `lab rollout run`; 0 for a PASS whose flags were read back.
        report: its mini report; empty if it wrote none.
        in_force: flow control of the shop afterwards, read from the shop itself.
        files: the paths of the chart and the summary, if they exist.
    """

    code: int
    report: dict[str, Any]
    in_force: dict[str, Any]
    files: tuple[Path, ...]

    @property
    def has_passed(self) -> bool:
        """Whether the verdict is PASS and the new flags were read back."""
        return self.code == 0

    @property
    def problems(self) -> list[str]:
        """One sentence per failure; empty if there is a verdict and the shop has the flags that follow from it.

        A verdict other than PASS is no failure: on a busy machine the windows may differ too much for one.
        """
        found = []
        if self.code not in VERDICT_CODES:
            found.append(f"The rollout ended without a verdict (exit code {self.code}).")
        expected = LIFTED["conc_cap"] if self.has_passed else THROTTLE["control"]["max_concurrency"]
        if self.in_force.get("max_concurrency") != expected:
            found.append(f"The shop should allow {expected} requests at a time, but has {json.dumps(self.in_force)}.")
        if not any(path.suffix == ".html" for path in self.files):
            found.append("The rollout wrote no chart.")
        return found


def play_rollout(console: Console, shop: LeasedTestbed, home: Path) -> int:
    """Throttle a shop, run a rollout that lifts the throttle, and check its end; return 0 if the flags fit the verdict.

    Args:
        console: the console for all output.
        shop: a healthy shop.
        home: the folder of the tour, which is the home of `lab`; plan and reports are written there.

    Raises:
        httpx.HTTPError: the shop does not answer, or rejects the throttle.
        subprocess.TimeoutExpired: the rollout does not end in time.
    """
    console.print(Text("\nrelab: a change goes live only if it is better", style="bold"))
    secret = {"Authorization": f"Bearer {shop.flags_token}"}
    with httpx.Client(base_url=shop.target, headers=secret, timeout=_ANSWER_S, trust_env=False) as client:
        client.post("/ops/flags", json=THROTTLE).raise_for_status()
        console.print(as_data("POST /ops/flags: a throttle, as one is set during an incident and forgotten afterwards"))
        plan = home / "rollout.yaml"
        plan.write_text(yaml.safe_dump(plan_document(shop.target), sort_keys=False), encoding="utf-8")
        shown = Path(os.path.relpath(plan))
        console.print(as_data(f"lab rollout run --config {shown}: 8 rounds with the throttle and without (some 40 s)"))
        with _lab_rollout(plan, home, shop.flags_token) as process:
            code = process.wait(TIMEOUT_S)
        in_force = client.get("/api/flags").raise_for_status().json()["control"]
    end = read_end(code, in_force, home)
    console.print(end_panel(end))
    for problem in end.problems:
        console.print(as_data(problem, "bold red"))
    if not end.problems:
        console.print(Text(_conclusion(end), style="bold green"))
    return 1 if end.problems else 0


def play_rollout_alone(console: Console, home: Path) -> int:
    """Start a shop for the third act alone, and play it; see `play_rollout`."""
    console.print("Starting a shop: PostgreSQL, Redis, workers (some 10 s)")
    with a_shop() as bed:
        return play_rollout(console, bed, home)


def plan_document(shop: str) -> dict[str, Any]:
    """Return the plan of the rollout on the shop with this base URL, as it is written to a file."""
    return {
        "base_url": shop,
        "experiment": {
            "qps": 150, "arrivals": "poisson", "mix": "order", "window_sec": 1.2, "warmup_sec": 0.3, "rounds": 8,
            "request_timeout": 2.0, "routing_mode": "keep", **LIFTED,
        },
        "thresholds": {"max_error_rate": 5.0},
        "subject": {"flags": {"kind": "service", "headers": {"Authorization": f"Bearer ${{{TOKEN_VARIABLE}}}"}}},
    }  # fmt: skip


@contextmanager
def _lab_rollout(plan: Path, home: Path, token: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield `lab rollout run`, which shows its progress; after the block it has ended, and has restored the flags."""
    command = [str(Path(sys.executable).with_name("lab")), "rollout", "run", "--config", str(plan)]
    environment = {**server_environment(os.environ, home), TOKEN_VARIABLE: token}
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with impatience_ignored():
            end_process(process)


def read_end(code: int, in_force: dict[str, Any], home: Path) -> RolloutEnd:
    """Return how the rollout ended, with the reports that it wrote below `home`.

    Args:
        code: its exit code.
        in_force: flow control of the shop afterwards.
        home: the folder in which it ran.
    """
    reports = home / "reports"
    mini = reports / f"{_REPORT}_MINI.json"
    report = json.loads(mini.read_text(encoding="utf-8")) if mini.is_file() else {}
    files = (reports / f"{_REPORT}.html", reports / "LABOPS_AGENT_SUMMARY.txt")
    return RolloutEnd(code, report, in_force, tuple(path for path in files if path.is_file()))


def _conclusion(end: RolloutEnd) -> str:
    if end.has_passed:
        return "The change is better beyond chance, so it is in force."
    return "The windows do not show that the change is better, so the flags are as before."


def end_panel(end: RolloutEnd) -> Panel:
    """Return a panel of the end of a rollout: verdict, figures, flags in force, and paths of the reports."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    in_force = f"{end.in_force.get('policy')}, at most {end.in_force.get('max_concurrency')} requests at a time"
    grid.add_row("Verdict", as_data(str(end.report.get("message", "no report"))))
    grid.add_row("ΔP95", as_data(_percent(end.report.get("delta_p95_pct"))))
    grid.add_row("Errors", as_data(_percent(end.report.get("error_rate_pct"))))
    grid.add_row("In force", as_data(in_force))
    grid.add_row("Chart, summary", Group(*(as_data(os.path.relpath(path), "bold") for path in end.files)))
    colour = "red" if end.problems else "green" if end.has_passed else "yellow"
    return Panel(grid, title="The rollout", title_align="left", border_style=colour, box=box.ROUNDED)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} %"
