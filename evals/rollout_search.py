"""Measure how often a search applies a change that does nothing, by simulation with the functions that search and judge.

python -m evals.rollout_search                 # the table, 20,000 simulated searches of each setting
python -m evals.rollout_search --runs 2000 --json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from evals.judge import Row, planned
from evals.rollout_noise import Draw, Service
from relab.rollouts.judging.effects import percent, running_effect
from relab.rollouts.judging.procedure import decide
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.reading import default_plan
from relab.rollouts.search.candidates import to_confirm

SDS = (0.05, 0.10, 0.15, 0.20)
CANDIDATES = 12
SCREENING_ROUNDS = 3
BETTER_PCT = -30.0


def searched(
    service: Service, changes_pct: Sequence[float], *, confirmations: int, runs: int, draw: Draw
) -> tuple[Row, int]:
    """Return how often searches apply a candidate, and how often the candidate with the best true change.

    Args:
        service: how windows vary.
        changes_pct: the true change of each candidate.
        confirmations: how many candidates may be confirmed.
        runs: number of searches.
        draw: the random generator.
    """
    changes = np.log1p(np.array(changes_pct) / 100)
    plan = default_plan().model_copy(update={"alpha_share": 1 / confirmations})
    estimates = np.stack([_screened(service, change, runs=runs, draw=draw) for change in changes], axis=1)
    greatest = plan.thresholds.edge_delta_p95_max
    orders = [
        to_confirm([percent(float(one)) for one in row], greatest_pct=greatest, most=confirmations) for row in estimates
    ]
    chosen = np.full(runs, -1)
    for number in range(confirmations):
        candidate = np.array([order[number] if number < len(order) else -1 for order in orders])
        passed = _passes(service, plan, changes[candidate], draw=draw)
        chosen = np.where((chosen < 0) & (candidate >= 0) & passed, candidate, chosen)
    applied = int((chosen >= 0).sum())
    name = f"search, {len(changes)} candidates, {confirmations} confirmation{'s' if confirmations > 1 else ''}"
    return Row("", "", name, applied, runs, 0.0), int((chosen == int(changes.argmin())).sum())


def _screened(service: Service, change: float, *, runs: int, draw: Draw) -> np.ndarray:
    plan = planned(rounds=SCREENING_ROUNDS, early_stop=False)
    return np.asarray(running_effect(service.pairs(plan, 0, runs=runs, draw=draw)).mean[:, -1] + change)


def _passes(service: Service, plan: Plan, change: np.ndarray, *, draw: Draw) -> np.ndarray:
    pairs = service.pairs(plan, 0, runs=len(change), draw=draw)
    return decide(plan, replace(pairs, log_b=pairs.log_b + change[:, None])).passed


def any_of_many(service: Service, *, runs: int, draw: Draw) -> Row:
    """Return how often at least one of identical candidates passes, if each one gets a rollout of the shipped plan."""
    plan, passed = default_plan(), np.zeros(runs, dtype=bool)
    for _ in range(CANDIDATES):
        passed |= decide(plan, service.pairs(plan, 0, runs=runs, draw=draw)).passed
    return Row("", "", f"the first PASS of {CANDIDATES} rollouts", int(passed.sum()), runs, 0.0)


def rows(*, runs: int, seed: int) -> Iterator[Row]:
    """Yield all rows."""
    draw = np.random.default_rng(seed)
    for sd in SDS:
        for name, service in (("", Service(sd)), (", drift -3 % per window", Service(sd, drift=-0.03))):
            setting = f"window SD {sd:.0%}{name}"
            yield replace(any_of_many(service, runs=runs, draw=draw), table="identical candidates", setting=setting)
            for confirmations in (1, 3):
                same = [0.0] * CANDIDATES
                found, _ = searched(service, same, confirmations=confirmations, runs=runs, draw=draw)
                yield replace(found, table="identical candidates", setting=setting)
    for sd in SDS:
        for confirmations in (1, 3):
            changes = [0.0] * (CANDIDATES - 1) + [BETTER_PCT]
            found, best = searched(Service(sd), changes, confirmations=confirmations, runs=runs, draw=draw)
            table, setting = f"one of {CANDIDATES} is {BETTER_PCT:g} %, and is applied", f"window SD {sd:.0%}"
            yield replace(found, table=table, setting=setting, passed=best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20_000, help="simulated searches of each setting")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = rows(runs=arguments.runs, seed=arguments.seed)
    if arguments.json:
        print(json.dumps([row.document() for row in found], indent=2))
        return
    table = ""
    for row in found:
        if row.table != table:
            table = row.table
            print(f"\n**{table}**\n\n| setting | procedure | share (95 % interval) | searches |\n|---|---|---|---|")
        low, high = row.interval_pct
        share = 100 * row.passed / row.runs
        print(
            f"| {row.setting} | {row.procedure} | {share:.2f} % ({low:.2f} to {high:.2f}) | {row.runs:,} |", flush=True
        )


if __name__ == "__main__":
    main()
