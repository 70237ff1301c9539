"""Regret curves of the policies on the fitted simulator of builds.

`python -m evals.build_policies [SEEDS] [--chart FILE.html] [--dqn] [--choose]`

In each step a new input of a simulated project is built with the default configuration, the policy sees the situation after that
build and chooses an action, and the simulated build with that action gives the reward. The project derives `was_flaky` as the
controller does, by two outcomes of one input. The oracle knows the fault and the expected reward of each action. Each policy
learns in 600 builds; its share of the oracle's reward is printed for the first 500 and for the 100 after them.

With --choose, the default policy is chosen by a rule fixed beforehand, on seeds that no report uses (10,000 and on): of UCB,
LinUCB and Thompson sampling, the one with the highest mean share of the oracle's reward over the first 500 builds; LinUCB, if the
interval of the paired difference to it contains 0. With --dqn, DQN is trained anew for each seed (extra [rl]) and compared with the best fixed
action.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from relab.builds.monitor.simulator import BuildSimulator, shipped_simulator
from relab.builds.optimizer.policies.network import NetworkPolicy
from relab.builds.optimizer.policies.protocol import BuildPolicy
from relab.builds.optimizer.policies.registry import POLICIES, make_policy
from relab.builds.optimizer.situation import reward_of
from relab.builds.training.models import TrainingRequest
from relab.builds.training.project import SimulatedProject
from relab.stats.distributions import t_quantile
from relab.stats.paired import paired_delta

BUILDS = 500
AFTER = 100
DRAWS = 1_000
FIRST_CHOOSING_SEED = 10_000
CHOOSING_SEEDS = 20
CANDIDATES = ("ucb", "thompson")
INCUMBENT = "linucb"
TRAINING_BUILDS = TrainingRequest().builds

Rewards = dict[tuple[str, int], float]
Curve = NDArray[np.float64]
MakePolicy = Callable[[int], BuildPolicy]
"""Returns the policy for a seed."""


def expected_rewards(simulator: BuildSimulator) -> Rewards:
    """Return the mean reward of each fault and action, by 1,000 simulated builds."""
    generator = np.random.default_rng(99)
    return {
        (fault, action): float(
            np.mean([reward_of(simulator.build(fault, action, generator), simulator.reference_s) for _ in range(DRAWS)])
        )
        for fault in simulator.faults
        for action in simulator.actions(fault)
    }


def play(policy: BuildPolicy, simulator: BuildSimulator, expected: Rewards, seed: int) -> tuple[Curve, Curve]:
    """Return for each build the expected reward of the chosen action, and that of the oracle's action."""
    generator = np.random.default_rng(seed)
    project = SimulatedProject(simulator, generator)
    own, best = np.zeros(BUILDS + AFTER), np.zeros(BUILDS + AFTER)
    for step in range(BUILDS + AFTER):
        features, actions = project.next_input().features(), project.actions
        chosen = actions[int(generator.choice(len(actions), p=policy.propensities(features, actions, generator)))]
        policy.learn(features, chosen, project.apply(chosen))
        own[step] = expected[project.fault, chosen]
        best[step] = max(expected[project.fault, action] for action in actions)
    return own, best


def share(run: tuple[Curve, Curve], builds: slice = slice(BUILDS)) -> float:
    """Return the share of the oracle's reward in some of the builds, by default the first 500."""
    own, best = run
    return float(own[builds].sum() / best[builds].sum())


def in_hindsight(simulator: BuildSimulator, expected: Rewards) -> str:
    """Return the name of the fixed policy with the best mean over all faults."""
    known = set.intersection(*(set(simulator.actions(fault)) for fault in simulator.faults))
    best = max(known, key=lambda action: sum(expected[fault, action] for fault in simulator.faults))
    return f"fixed:{best}"


def trained(simulator: BuildSimulator, seed: int) -> BuildPolicy:
    """Return a DQN policy that was trained with a seed before the builds that are counted."""
    from relab.builds.training.dqn import train_dqn  # noqa: PLC0415 an extra

    request = TrainingRequest(builds=TRAINING_BUILDS, seed=seed)
    return NetworkPolicy(train_dqn(simulator, request, lambda _point: None)[0])


def interval(values: list[float]) -> str:
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    half = t_quantile(0.975, len(values) - 1) * deviation / np.sqrt(len(values))
    return f"{100 * mean:5.1f} % [{100 * (mean - half):5.1f}, {100 * (mean + half):5.1f}]"


def difference(name: str, better: list[float], other: list[float]) -> float:
    """Print the mean paired difference of shares with its interval, and return the lower end of the interval."""
    found = paired_delta([a - b for a, b in zip(better, other, strict=True)])
    low, high = 100 * found.interval.low, 100 * found.interval.high
    print(f"{name}: {100 * found.estimate:+.1f} points [{low:+.1f}, {high:+.1f}], n = {found.pairs} seeds")
    return found.interval.low


def choose(simulator: BuildSimulator, expected: Rewards) -> None:
    """Print the policy that the rule selects as the default."""
    seeds = range(FIRST_CHOOSING_SEED, FIRST_CHOOSING_SEED + CHOOSING_SEEDS)
    shares = {
        name: [share(play(make_policy(name), simulator, expected, seed)) for seed in seeds]
        for name in (*CANDIDATES, INCUMBENT)
    }
    for name, values in shares.items():
        print(f"{name:12} {interval(values)}")
    best = max(CANDIDATES, key=lambda name: np.mean(shares[name]))
    low = difference(f"{best} minus {INCUMBENT}", shares[best], shares[INCUMBENT])
    print(f"default by the rule: {best if low > 0 else INCUMBENT}")


def write_chart(path: str, curves: dict[str, Curve]) -> None:
    import altair as alt  # noqa: PLC0415 only for the chart

    rows = [
        {"policy": name, "build": step, "regret": float(value)}
        for name, curve in curves.items()
        for step, value in enumerate(curve, 1)
        if step % 5 == 0
    ]
    chart = alt.Chart(alt.Data(values=rows)).mark_line()
    chart = chart.encode(x="build:Q", y=alt.Y("regret:Q", title="cumulative regret"), color="policy:N")
    chart.properties(title="Regret of policies on the fitted simulator", width=700, height=400).save(path, inline=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seeds", nargs="?", type=int, default=20)
    parser.add_argument("--chart", default="")
    parser.add_argument("--dqn", action="store_true")
    parser.add_argument("--choose", action="store_true")
    options = parser.parse_args()
    simulator = shipped_simulator()
    expected = expected_rewards(simulator)
    if options.choose:
        choose(simulator, expected)
        return
    fixed = in_hindsight(simulator, expected)
    made: dict[str, MakePolicy] = {name: lambda _seed, name=name: make_policy(name) for name in (*POLICIES, fixed)}  # type: ignore[misc]
    if options.dqn:
        made["dqn"] = lambda seed: trained(simulator, seed)
    print(
        f"{BUILDS} builds and {AFTER} after them, {options.seeds} seeds, {len(simulator.faults)} faults; share of the oracle's reward, 95 % interval"
    )
    print(
        f"{fixed} is the best fixed action in hindsight; dqn was trained on {TRAINING_BUILDS:,} other builds before\n"
    )
    print(f"{'policy':12} {f'first {BUILDS}':26} {f'{AFTER} after them':26} regret after {BUILDS}")
    curves, shares = {}, {}
    for name, make in made.items():
        runs = [play(make(seed), simulator, expected, seed) for seed in range(options.seeds)]
        shares[name] = [share(run) for run in runs]
        curves[name] = np.mean([(best - own).cumsum() for own, best in runs], axis=0)
        after = interval([share(run, slice(BUILDS, None)) for run in runs])
        print(f"{name:12} {interval(shares[name]):26} {after:26} {curves[name][BUILDS - 1]:.1f}", flush=True)
    if options.dqn:
        print()
        difference(f"dqn minus {fixed}", shares["dqn"], shares[fixed])
    if options.chart:
        write_chart(options.chart, curves)


if __name__ == "__main__":
    main()
