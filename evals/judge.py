"""Measure how often the verdict of a rollout is wrong, by simulation with the functions that give the verdict.

python -m evals.judge                 # the tables, 20,000 simulated rollouts of each setting
python -m evals.judge --runs 2000 --json

The levels of the procedure were chosen with the seeds 1 to 3; the default seed has not been used for that.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evals.rollout_noise import SAMPLING_SD, Draw, Service, correlated, heavy, spikes
from relab.core.clock import EARLIEST_US
from relab.load.histogram import LatencyHistogram
from relab.rollouts.judging import judge, plan_rounds, window_quantile_ms
from relab.rollouts.judging.effects import Pairs, running_effect
from relab.rollouts.judging.procedure import decide, meets_gates
from relab.rollouts.judging.rounds import gates_of
from relab.rollouts.models import Arm, ArmWindow
from relab.rollouts.plans.models import Measurement, Plan
from relab.rollouts.plans.reading import default_plan, parse_plan
from relab.rollouts.plans.schedule import PlannedWindow, windows_of
from relab.stats.dispersed_rate import dispersed_rate
from relab.stats.intervals import clopper_pearson
from relab.stats.verdicts import Verdict

SDS = (0.0, 0.05, 0.10, 0.15, 0.20)
DRIFT = -0.03
SEED_PLAN = "experiment: {rounds: 2, order: abab}\npolicy: seed\n"
REQUESTS = 1_200
SIGMA = 0.6


@dataclass(frozen=True, slots=True)
class Row:
    """How often simulated rollouts of one setting passed.

    Attributes:
        table, setting: where the row is printed, and its name.
        procedure: the rule that judged.
        passed, runs: how many rollouts passed, of how many.
        rounds: mean number of measured rounds.
    """

    table: str
    setting: str
    procedure: str
    passed: int
    runs: int
    rounds: float

    @property
    def interval_pct(self) -> tuple[float, float]:
        """The 95 % confidence interval of the share that passed, in percent."""
        share = clopper_pearson(self.passed, self.runs)
        return 100 * share.low, 100 * share.high

    @property
    def line(self) -> str:
        """The row of a Markdown table."""
        low, high = self.interval_pct
        return (
            f"| {self.setting} | {self.procedure} | {100 * self.passed / self.runs:.2f} % ({low:.2f} to {high:.2f}) | "
            f"{self.rounds:.1f} | {self.runs:,} |"
        )

    def document(self) -> dict[str, Any]:
        """Return the row as JSON."""
        low, high = self.interval_pct
        return {**asdict(self), "low_pct": low, "high_pct": high}


def planned(**changes: Any) -> Plan:
    """Return the shipped plan with changed fields of `experiment`; `early_stop=False` turns early looks off."""
    plan = default_plan()
    early = plan.early_stop if changes.pop("early_stop", True) else None
    # The plan is validated again, which converts the name of an order to the order.
    experiment = Measurement.model_validate({**plan.experiment.model_dump(), **changes})
    return plan.model_copy(update={"experiment": experiment, "early_stop": early})


def simulated(table: str, setting: str, plan: Plan, service: Service, change: float, *, runs: int, draw: Draw) -> Row:
    """Return how often rollouts of a plan on a service pass when the change is `change` percent."""
    found = decide(plan, service.pairs(plan, change, runs=runs, draw=draw))
    name = "seed's rule, 2 rounds" if plan.policy == "seed" else _procedure(plan)
    return Row(table, setting, name, int(found.passed.sum()), runs, float(found.rounds.mean()))


def _procedure(plan: Plan) -> str:
    rounds = f"{plan.experiment.rounds} rounds"
    if plan.experiment.rounds == "auto":
        rounds = f"{plan.experiment.min_rounds} to {plan.experiment.max_rounds} rounds"
    return f"{plan.experiment.order.value}, {rounds}{', early looks' if plan.early_stop else ''}"


def identical_arms(*, runs: int, draw: Draw) -> Iterator[Row]:
    """Yield how often identical arms pass."""
    shipped, seed_rule = default_plan(), parse_plan(SEED_PLAN, "seed.yaml")
    for sd in SDS:
        for name, service in (("", Service(sd)), (", drift -3 % per window", Service(sd, drift=DRIFT))):
            for plan in (seed_rule, shipped):
                yield simulated("A/A", f"window SD {sd:.0%}{name}", plan, service, 0, runs=runs, draw=draw)
    for order in ("abab", "abba"):
        for sd in (0.1, 0.2):
            setting = f"window SD {sd:.0%}, drift -3 % per window"
            plan = planned(order=order)
            yield simulated("A/A, other orders", setting, plan, Service(sd, drift=DRIFT), 0, runs=runs, draw=draw)
    for rounds in (8, 16, 24):
        setting = "window SD 20%"
        for early_stop in (False, True):
            plan = planned(rounds=rounds, early_stop=early_stop)
            yield simulated("A/A, fixed rounds", setting, plan, Service(0.2), 0, runs=runs, draw=draw)


def hard_services(*, runs: int, draw: Draw) -> Iterator[Row]:
    """Yield how often identical arms pass where windows are not independent and normal."""
    for sd in (0.1, 0.2):
        services = {
            "heavy tails (t, 3 degrees)": Service(sd, noise=heavy),
            "one slow window in ten": Service(sd, noise=spikes),
            "the same with drift": Service(sd, noise=spikes, drift=DRIFT),
            "level jumps by 50 %": Service(sd, step=math.log(1.5)),
            "wave of 2 windows, 30 %": Service(sd, wave=0.3, wave_windows=2),
            "wave of 4 windows, 30 %": Service(sd, wave=0.3, wave_windows=4),
            "neighbours correlate by 0.3": Service(sd, noise=correlated(0.3)),
            "neighbours correlate by 0.5": Service(sd, noise=correlated(0.5)),
            "neighbours correlate by 0.8": Service(sd, noise=correlated(0.8)),
        }
        for name, service in services.items():
            setting = f"window SD {sd:.0%}, {name}"
            for order in ("random", "abab", "abba"):
                plan = planned(order=order)
                yield simulated("A/A, hard services", setting, plan, service, 0, runs=runs, draw=draw)


def real_effects(*, runs: int, draw: Draw) -> Iterator[Row]:
    """Yield how often a real change passes, with the rounds that the planner chooses."""
    for sd in SDS[1:]:
        for change in (-15, -20, -30, -50):
            setting = f"true change {change} %, window SD {sd:.0%}"
            yield simulated("power", setting, default_plan(), Service(sd), change, runs=runs, draw=draw)
    for early_stop in (False, True):
        plan, service = planned(early_stop=early_stop), Service(0.1, drift=DRIFT)
        setting = "true change -20 %, window SD 10%, drift -3 % per window"
        yield simulated("power", setting, plan, service, -20, runs=runs, draw=draw)
    two = planned(rounds=2)
    yield simulated("power", "true change -20 %, window SD 10%", two, Service(0.1), -20, runs=runs, draw=draw)


def rejected_procedures(*, runs: int, draw: Draw) -> Iterator[Row]:
    """Yield how often identical arms pass under rejected procedures, which justifies the shipped one."""
    plan = planned(rounds=16, early_stop=False)
    for sd in (0.1, 0.2):
        setting = f"window SD {sd:.0%}"
        pairs = Service(sd).pairs(plan, 0, runs=runs, draw=draw)
        running = running_effect(pairs)
        looks = [meets_gates(plan, running, rounds, gates_of(plan).alpha) for rounds in range(3, pairs.rounds + 1)]
        name = "a look at the 99 % interval after each round from the third on"
        yield Row("A/A, rejected", setting, name, int(np.any(looks, axis=0).sum()), runs, 16)
        few = min(runs, 4_000)
        passed = _bootstrap_passes(Service(sd).pairs(planned(rounds=8), 0, runs=few, draw=draw), draw)
        yield Row("A/A, rejected", setting, "99 % bootstrap interval over 8 rounds", int(passed.sum()), few, 8)
        uncorrected = Service(sd, drift=DRIFT).pairs(planned(rounds=8, order="abab"), 0, runs=runs, draw=draw)
        same = np.zeros(8)
        alike = Pairs(uncorrected.log_a, uncorrected.log_b, same + np.arange(8), same + np.arange(8))
        passed = meets_gates(plan, running_effect(alike), 8, gates_of(plan).alpha)
        name = "abab, 8 rounds, drift -3 % per window not corrected"
        yield Row("A/A, rejected", setting, name, int(passed.sum()), runs, 8)


def _bootstrap_passes(pairs: Pairs, draw: Draw, *, resamples: int = 999) -> np.ndarray[Any, np.dtype[np.bool_]]:
    difference = pairs.log_b - pairs.log_a
    drawn = draw.integers(0, pairs.rounds, size=(resamples, pairs.rounds))
    upper = np.array([np.quantile(one[drawn].mean(axis=1), 0.995) for one in difference])
    return np.asarray((difference.mean(axis=1) <= math.log(0.9)) & (upper < 0))


def whole_rollouts(*, runs: int, draw: Draw) -> Iterator[Row]:
    """Yield verdicts of `judge` on rollouts whose every request is drawn: identical arms, and a gain of 20 %."""
    for change in (0.0, -20.0):
        passed, rounds = 0, 0
        for number in range(runs):
            verdict, measured = _whole_rollout(change, f"rollout-{number}", draw)
            passed += verdict is Verdict.PASS
            rounds += measured
        setting = f"true change {change:g} %, window SD 10%, {REQUESTS:,} requests a window"
        yield Row("judge(), from requests", setting, _procedure(planned(early_stop=False)), passed, runs, rounds / runs)


def _whole_rollout(change: float, rollout_id: str, draw: Draw) -> tuple[Verdict, int]:
    plan = planned(early_stop=False)
    windows = [_window(one, change, draw) for one in windows_of(plan, plan.experiment.first_rounds, rollout_id)]
    rounds = plan_rounds(windows, plan)
    windows += [_window(one, change, draw) for one in windows_of(plan, rounds, rollout_id)[len(windows) :]]
    return judge(windows, plan).verdict, rounds


def _window(planned_window: PlannedWindow, change: float, draw: Draw) -> ArmWindow:
    level = math.log(100.0) + 0.1 * draw.standard_normal()
    level += math.log1p(change / 100) * (planned_window.arm is Arm.B)
    histogram = LatencyHistogram()
    for latency_ms in np.exp(level + SIGMA * draw.standard_normal(REQUESTS)):
        histogram.record(int(latency_ms * 1e6))
    p95_ms = window_quantile_ms(histogram, histogram, timeout_ms=10_000)
    return ArmWindow(
        index=planned_window.index,
        round=planned_window.round,
        arm=planned_window.arm,
        started_at=EARLIEST_US,
        duration_s=120,
        offered=REQUESTS,
        sent=REQUESTS,
        completed=REQUESTS,
        bad=0,
        dropped=0,
        p95_ms=p95_ms,
        metric=p95_ms,
    )


def error_bounds(*, runs: int, draw: Draw) -> Iterator[Row]:
    """Yield how often the upper bound of an error rate of exactly 1 % lies below 1 % (nominal maximum: 2.5 %)."""
    few = min(runs, 5_000)
    for name, concentration in (("independent errors", None), ("errors in bursts", 100.0), ("long bursts", 10.0)):
        for rounds in (8, 24):
            below = 0
            for _ in range(few):
                rates = np.full(rounds, 0.01)
                if concentration is not None:
                    rates = draw.beta(0.01 * concentration, 0.99 * concentration, rounds)
                hits = [int(count) for count in draw.binomial(REQUESTS, rates)]
                below += dispersed_rate(hits, [REQUESTS] * rounds, level=0.95).high < 0.01
            yield Row("error bound below a true 1 %", name, f"{rounds} windows", below, few, rounds)


def rows(*, runs: int, seed: int) -> Iterator[Row]:
    """Yield all rows."""
    draw = np.random.default_rng(seed)
    for table in (identical_arms, hard_services, rejected_procedures, real_effects, error_bounds):
        yield from table(runs=runs, draw=draw)
    yield from whole_rollouts(runs=min(100, max(10, runs // 40)), draw=draw)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=_positive, default=20_000, help="simulated rollouts of each setting, at least 1")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = rows(runs=arguments.runs, seed=arguments.seed)
    if arguments.json:
        print(json.dumps([row.document() for row in found], indent=2))
        return
    print(
        f"Seed {arguments.seed}. Windows vary by the SD and by {SAMPLING_SD:.1%} of sampling; in brackets 95 % intervals."
    )
    table = ""
    for row in found:
        if row.table != table:
            table = row.table
            print(f"\n**{table}**\n\n| setting | procedure | passes | rounds | rollouts |\n|---|---|---|---|---|")
        print(row.line, flush=True)


if __name__ == "__main__":
    main()
