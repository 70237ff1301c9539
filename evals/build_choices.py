"""Right choices of the optimizer after real failed builds.

`python -m evals.build_choices PROJECT... [--warm KNOB=VALUE]`

Each PROJECT is a folder with a `build.yaml` whose default configuration fails for a reason that an action may remove.
The truth is measured first: for each action that relab offers, `--repeats` passes with the policy that always chooses
it. An action is right if every build after it succeeded. Then `--passes` passes of a fresh installation run with
`--policy`, which learns as it goes. The share of right choices is printed beside that of keeping the configuration and
of an even random choice among the offered actions.

`--warm KNOB=VALUE` runs one build with other knobs before everything else, for example on a machine with more memory,
so that it fills the cache.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from relab.bootstrap import build
from relab.builds.models import BuildStatus
from relab.builds.monitor.build_file import BuildProject, override, read_project
from relab.builds.optimizer.catalogue import DEFAULT_POLICY, KEEP, action_of
from relab.builds.service import BuildService
from relab.settings import load_settings
from relab.stats.intervals import LEVEL, exact_ends

Choice = tuple[tuple[int, ...], int, bool]
"""A decision of a pass: the offered actions, the chosen one, and whether the build after it succeeded."""


@contextmanager
def installation(project: BuildProject, warm: Sequence[str]) -> Iterator[BuildService]:
    """Yield the builds of a new, empty installation in which one build with the knobs `warm` has succeeded."""
    with tempfile.TemporaryDirectory() as home:
        services = build(load_settings(Path(home)))
        services.prepare()
        try:
            if warm:
                configuration = override(project.file.defaults, dict(text.split("=", 1) for text in warm)).model_copy(
                    update={"retries": 0}
                )
                result = services.builds.run(project, configuration, stop=Event()).builds[-1].result
                if result.status is not BuildStatus.SUCCESS:
                    raise SystemExit(f"{project.file.name}: the warming build failed: {result.error}")
            yield services.builds
        finally:
            services.close()


def choice_of_pass(builds: BuildService, folder: Path, policy: str) -> Choice:
    """Return the decision of one pass with a single retry."""
    project = read_project(folder)
    configuration = project.file.defaults.model_copy(update={"retries": 1})
    done = builds.run(project, configuration, policy=policy, stop=Event())
    if not done.decisions:
        raise SystemExit(f"{project.file.name}: the default configuration does not fail, so nothing is chosen")
    decision = done.decisions[0]
    return decision.actions, decision.action_id, done.builds[-1].result.status is BuildStatus.SUCCESS


def truth(folder: Path, warm: Sequence[str], repeats: int) -> dict[int, int]:
    """Return `{offered action: number of builds after it that succeeded, of `repeats`}`."""
    with installation(read_project(folder), warm) as builds:
        offered, _, succeeded = choice_of_pass(builds, folder, f"fixed:{KEEP}")
        found = dict.fromkeys(offered, 0)
        found[KEEP] += succeeded
        for action in offered:
            for _ in range(repeats - (action == KEEP)):
                found[action] += choice_of_pass(builds, folder, f"fixed:{action}")[2]
    return found


def shown(name: str, right: float, count: int) -> str:
    low, high = exact_ends(right, count, LEVEL)
    return f"  {name:18} {right:5.1f} of {count} ({100 * right / count:.0f} %, 95 % interval {100 * low:.0f}-{100 * high:.0f})"


def score(folder: Path, warm: Sequence[str], options: argparse.Namespace) -> Iterable[str]:
    """Yield the lines of the report about one project."""
    succeeded = truth(folder, warm, options.repeats)
    right = {action for action, count in succeeded.items() if count == options.repeats}
    yield f"{folder.name}: after each action, builds that succeeded of {options.repeats}"
    for action, count in succeeded.items():
        yield f"  {action} {action_of(action).description:28} {count}{'  right' if action in right else ''}"
    with installation(read_project(folder), warm) as builds:
        choices = [choice_of_pass(builds, folder, options.policy) for _ in range(options.passes)]
    yield f"  {options.policy} chose, pass by pass: {' '.join(str(action) for _, action, _ in choices)}"
    count = len(choices)
    yield shown(options.policy, sum(action in right for _, action, _ in choices), count)
    yield shown("keep (do nothing)", count * (KEEP in right), count)
    by_chance = sum(len(right & set(offered)) / len(offered) for offered, _, _ in choices)
    yield f"  {'random choice':18} {by_chance:5.1f} of {count} expected ({100 * by_chance / count:.0f} %)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("projects", nargs="+", type=Path)
    parser.add_argument("--policy", default=DEFAULT_POLICY)
    parser.add_argument("--passes", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warm", action="append", default=[], metavar="KNOB=VALUE")
    options = parser.parse_args()
    for folder in options.projects:
        for line in score(folder, options.warm, options):
            print(line, flush=True)


if __name__ == "__main__":
    main()
