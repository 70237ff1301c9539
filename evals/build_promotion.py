"""How often `lab builds promote` passes a policy that is not better, and how often one that is: simulated logs.

`python -m evals.build_promotion [--runs N] [--seed N] [--sizes N ...] [--only WORD] [--json]`

Each run simulates a log of decisions and judges a candidate against a current policy with the functions of the command:
both learn from the older half, and are judged on the newer half. In the settings `equal` both policies have the same true
mean reward, so each PASS is a false one; at most 2.5 % are nominal. In the settings `better` the candidate has a true gain,
and the share of PASS is the power. The intervals are exact (Clopper, Pearson). Seeds below 1,000 are for changes of the judge; reports use others.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from relab.builds.optimizer.evaluation import LoggedDecision, halves, train
from relab.builds.optimizer.policies.protocol import BuildPolicy
from relab.builds.optimizer.policies.registry import make_policy
from relab.builds.promotion.judging import judge
from relab.stats.intervals import clopper_pearson
from relab.stats.verdicts import Verdict

RUNS = 500
SIZES = (120, 240, 500, 1_000, 2_000)
LOOKS = (250, 500, 1_000)
"""Sizes of a growing log at which it is judged, until a PASS."""
SEED = 2_026_12
KINDS = 3
RETRIES = 3
ACTIONS = 4
WORDS = (Verdict.PASS, Verdict.EDGE, Verdict.FAIL, Verdict.INVALID)


@dataclass(frozen=True)
class Setting:
    """A simulated setting.

    Attributes:
        name: the name in the table; it begins with `equal` or `better`.
        log: the name of the policy that wrote the log, or `even`, `skewed` for fixed propensities.
        candidate, current: the names of the judged policies.
        success: the probability of success by kind of failure and action.
        hopeless: the share of inputs whose builds fail with every action.
    """

    name: str
    log: str
    candidate: str
    current: str
    success: tuple[tuple[float, ...], ...]
    hopeless: float = 0.0


@dataclass(frozen=True)
class Row:
    """The number of verdicts of each kind; `counts` are in the order of `WORDS`."""

    setting: str
    size: str
    runs: int
    counts: tuple[int, ...]

    @property
    def line(self) -> str:
        """The row of a Markdown table."""
        share = clopper_pearson(self.counts[0], self.runs)
        others = " / ".join(f"{100 * count / self.runs:.0f}" for count in self.counts[1:])
        passed = f"{100 * self.counts[0] / self.runs:.1f} % ({100 * share.low:.1f}-{100 * share.high:.1f})"
        return f"| {self.setting} | {self.size} | {passed} | {others} | {self.runs:,} |"


def same(*by_kind: float) -> tuple[tuple[float, ...], ...]:
    """Return probabilities that depend on the kind of failure alone."""
    return tuple((chance,) * ACTIONS for chance in by_kind)


HALF = same(0.5, 0.5, 0.5)
CROSSED = ((0.5, 0.9, 0.1, 0.5), (0.5, 0.1, 0.9, 0.5), (0.5, 0.5, 0.5, 0.5))
"""Two actions are equally good on average, and each is better for one kind of failure."""
USEFUL = ((0.2, 0.9, 0.3, 0.3), (0.2, 0.3, 0.8, 0.3), (0.2, 0.3, 0.3, 0.5))
"""Each kind of failure has an action that helps; action 0, to keep the configuration, rarely does."""
SMALL = ((0.5, 0.6, 0.5, 0.5), (0.5, 0.5, 0.6, 0.5), (0.5, 0.5, 0.5, 0.6))
SETTINGS = (
    Setting("equal: fixed, even log", "even", "fixed:1", "fixed:2", HALF),
    Setting("equal: fixed, even log, 95 % succeed", "even", "fixed:1", "fixed:2", same(0.95, 0.95, 0.95)),
    Setting("equal: fixed, even log, 5 % succeed", "even", "fixed:1", "fixed:2", same(0.05, 0.05, 0.05)),
    Setting("equal: fixed, even log, crossed effects", "even", "fixed:1", "fixed:2", CROSSED),
    Setting("equal: fixed, skewed log", "skewed", "fixed:1", "fixed:2", HALF),
    Setting("equal: fixed against the logged one, skewed log", "skewed", "fixed:1", "fixed:0", HALF),
    Setting("equal: thompson for linucb, log of linucb", "linucb", "thompson", "linucb", HALF),
    Setting(
        "equal: linucb for best-fixed, log of best-fixed", "best-fixed", "linucb", "best-fixed", same(0.2, 0.5, 0.8)
    ),
    Setting("equal: linucb for fixed, log of thompson", "thompson", "linucb", "fixed", same(0.2, 0.5, 0.8)),
    Setting("equal: fixed, even log, half the inputs hopeless", "even", "fixed:1", "fixed:2", same(0.9, 0.9, 0.9), 0.5),
    Setting("equal: linucb for fixed, log of thompson, half hopeless", "thompson", "linucb", "fixed", HALF, 0.5),
    Setting("better: fixed:1 by 0.05, even log", "even", "fixed:1", "fixed:0", ((0.5, 0.6, 0.5, 0.5),) * KINDS),
    Setting("better: linucb for fixed, small effects, even log", "even", "linucb", "fixed", SMALL),
    Setting("better: linucb for best-fixed, log of best-fixed", "best-fixed", "linucb", "best-fixed", USEFUL),
    Setting("better: linucb for fixed, even log", "even", "linucb", "fixed", USEFUL),
    Setting("better: linucb for fixed, even log, half hopeless", "even", "linucb", "fixed", USEFUL, 0.5),
)
SHARES = {"even": np.full(ACTIONS, 1 / ACTIONS), "skewed": np.array([0.7, 0.1, 0.1, 0.1])}


def simulated_log(setting: Setting, size: int, generator: np.random.Generator) -> list[LoggedDecision]:
    """Return a log of passes: an input is built until it succeeds, at most `RETRIES` times after its first failure."""
    policy: BuildPolicy | None = None if setting.log in SHARES else make_policy(setting.log)
    actions = tuple(range(ACTIONS))
    found: list[LoggedDecision] = []
    group = 0
    while len(found) < size:
        group += 1
        kind, is_hopeless = int(generator.integers(KINDS)), generator.random() < setting.hopeless
        for attempt in range(RETRIES):
            flags = [1.0, *(float(kind == each) for each in range(KINDS)), float(attempt > 0), 0.0, 0.0, 0.0]
            features = tuple(flags)
            chances = SHARES[setting.log] if policy is None else policy.propensities(features, actions, generator)
            # This is faster than `generator.choice`.
            chosen = min(int(np.searchsorted(np.cumsum(chances), generator.random(), side="right")), ACTIONS - 1)
            is_success = not is_hopeless and generator.random() < setting.success[kind][chosen]
            # reference / (reference + duration) for log-normal durations around the reference
            reward = float(is_success) / (1 + float(np.exp(generator.normal(0, 0.3))))
            found.append(LoggedDecision(features, actions, tuple(chances), chosen, reward, group))
            if policy is not None:
                policy.learn(features, chosen, reward)
            if is_success:
                break
    return found[:size]


def verdict_of(work: tuple[Setting, Sequence[int], int]) -> Verdict:
    """Return the verdict about a simulated log, the first PASS or else the last verdict.

    `work` is the setting, the sizes of the log at which it is judged, and the seed.
    """
    setting, sizes, seed = work
    log, verdict = simulated_log(setting, sizes[-1], np.random.default_rng(seed)), Verdict.INVALID
    for size in sizes:
        older, newer = halves(log[:size], "simulated")
        candidate, current = (train(make_policy(name), older) for name in (setting.candidate, setting.current))
        verdict = judge(candidate, current, newer).verdict
        if verdict is Verdict.PASS:
            break
    return verdict


def rows(pool: ProcessPoolExecutor, sizes: list[int], *, runs: int, seed: int, only: str) -> Iterator[Row]:
    """Yield a row per setting with `only` in its name and per log size; for `equal`, also one for all `LOOKS`."""
    for setting in SETTINGS:
        if only not in setting.name:
            continue
        grown = [LOOKS] if setting.name.startswith("equal") else []
        for judged in [*((size,) for size in sizes), *grown]:
            seeds = np.random.SeedSequence([seed, sum(judged), SETTINGS.index(setting)]).generate_state(runs)
            found = list(pool.map(verdict_of, [(setting, judged, int(each)) for each in seeds], chunksize=5))
            shown = " then ".join(f"{size:,}" for size in judged)
            yield Row(setting.name, shown, runs, tuple(found.count(word) for word in WORDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # Threads slow down the linear algebra of eight features, and would compete with the processes.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if not options.json:
        print("| setting | decisions | PASS (95 % interval) | EDGE / FAIL / INVALID, % | n |\n|---|---|---|---|---|")
    documents: list[dict[str, Any]] = []
    with ProcessPoolExecutor() as pool:
        for row in rows(pool, options.sizes, runs=options.runs, seed=options.seed, only=options.only):
            documents.append(asdict(row))
            if not options.json:
                print(row.line, flush=True)
    if options.json:
        print(json.dumps(documents))


if __name__ == "__main__":
    main()
