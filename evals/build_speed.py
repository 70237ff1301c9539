"""Does the chosen configuration build the example faster than the default? `python -m evals.build_speed [ROUNDS]`.

The policy has learnt from the fitted simulator alone. It chooses an action for a successful build of the default
configuration. Then real builds are measured in rounds: one with the default configuration and one with the chosen
one, in alternating order. Each round changes one source file before both, so that neither can reuse an earlier result.
The verdict is that of a gate on the paired differences of the logarithms of the durations.
"""

from __future__ import annotations

import math
import re
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from threading import Event

import numpy as np

from evals.build_measurements import EXAMPLE
from relab.bootstrap import build
from relab.builds.models import BuildConfiguration, BuildStatus
from relab.builds.monitor.build_file import BuildProject, read_project
from relab.builds.monitor.simulator import shipped_simulator
from relab.builds.optimizer.catalogue import DEFAULT_POLICY, action_of, possible_actions
from relab.builds.optimizer.policies.registry import make_policy
from relab.builds.optimizer.situation import BuildSituation
from relab.builds.service import BuildService
from relab.builds.training.project import SimulatedProject
from relab.settings import load_settings
from relab.stats.paired import paired_delta
from relab.stats.verdicts import Gate

LEAST_GAIN = 0.2
LEARNT_BUILDS = 500
SEED = 4_001


def chosen_action(defaults: BuildConfiguration, actions: list[int]) -> int:
    """Return the action that the default policy prefers after a success, having learnt from 500 simulated builds."""
    generator = np.random.default_rng(SEED)
    policy = make_policy(DEFAULT_POLICY)
    project = SimulatedProject(shipped_simulator(), generator)
    for _ in range(LEARNT_BUILDS):
        features = project.next_input().features()
        possible = project.actions
        chosen = possible[int(generator.choice(len(possible), p=policy.propensities(features, possible, generator)))]
        policy.learn(features, chosen, project.apply(chosen))
    after = BuildSituation.after(None, defaults, failed_attempts=0).features()
    return actions[int(policy.propensities(after, actions, generator).argmax())]


def change_source(project: Path, number: int) -> None:
    """Change one source file of the project, as a commit would."""
    source = sorted((project / "src").rglob("*.c"))[number % len(list((project / "src").rglob("*.c")))]
    text = re.sub(r"\n/\* change \d+ \*/\n$", "\n", source.read_text())
    source.write_text(f"{text}\n/* change {number} */\n")


def duration_s(builds: BuildService, project: BuildProject, configuration: BuildConfiguration) -> float:
    """Return the duration of one build in seconds."""
    alone = configuration.model_copy(update={"retries": 0})
    result = builds.run(project, alone, stop=Event()).builds[-1].result
    if result.status is not BuildStatus.SUCCESS:
        sys.exit(f"A build of the example failed ({configuration}): {result.error}")
    return result.duration_s


def measure(rounds: int) -> tuple[int, list[float], list[float]]:
    """Return the chosen action, and the durations with the default and with the chosen configuration, by round."""
    default: list[float] = []
    chosen: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        shutil.copytree(EXAMPLE, folder)
        # Each arm has its own home, so that neither uses the other's cache or workspace.
        arms = {arm: build(load_settings(Path(name) / arm)) for arm in ("default", "chosen")}
        for services in arms.values():
            services.prepare()
        project = read_project(folder)
        before = project.file.defaults
        after = possible_actions(before, project.file.largest, tuple(project.file.test_selections))
        action = chosen_action(before, [*after])
        configurations = {"default": before, "chosen": after[action]}
        for number in range(rounds + 1):
            change_source(folder, number)
            order = ("default", "chosen") if number % 2 else ("chosen", "default")
            found = {arm: duration_s(arms[arm].builds, read_project(folder), configurations[arm]) for arm in order}
            print(f"round {number}: default {found['default']:.2f} s, chosen {found['chosen']:.2f} s", file=sys.stderr)
            # The first round has no cache or workspace to reuse, so it is printed and not counted.
            if number:
                default.append(found["default"])
                chosen.append(found["chosen"])
        for services in arms.values():
            services.close()
    return action, default, chosen


def main(rounds: str = "15") -> None:
    action, default, chosen = measure(int(rounds))
    found = paired_delta([math.log(b / a) for a, b in zip(default, chosen, strict=True)])
    gate = Gate("log_duration", at_least=False, threshold=math.log(1 - LEAST_GAIN))
    low, high = (100 * (math.exp(value) - 1) for value in (found.interval.low, found.interval.high))
    print(
        f"action {action} ({action_of(action).description}), chosen by {DEFAULT_POLICY} after {LEARNT_BUILDS} simulated builds"
    )
    print(f"{len(default)} rounds of two real builds of examples/build, each round with one changed source file")
    print(
        f"median duration: default {median(default):.2f} s, chosen {median(chosen):.2f} s "
        f"({100 * (median(chosen) / median(default) - 1):+.1f} %)"
    )
    print(
        f"geometric mean of the ratio: {100 * (math.exp(found.estimate) - 1):+.1f} %, 95 % interval [{low:+.1f} %, {high:+.1f} %]"
        f" ({found.interval.method})"
    )
    print(f"gate: the whole interval at or below {-100 * LEAST_GAIN:.0f} %: {gate.judge(found.interval).value}")


if __name__ == "__main__":
    main(*sys.argv[1:])
