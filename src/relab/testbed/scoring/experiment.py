"""Write experiments for `lab run`: each variant is a responder, and each row of the data set is an episode (a test).

`python -m relab.testbed.scoring.experiment FOLDER --home HOME --episodes 100 --seed 7 [--responder NAME=COMMAND …]`
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from relab.core.errors import RelabError
from relab.testbed.scoring.episodes import Episode, WrongEpisodeError, make_episodes
from relab.testbed.scoring.harness import HOME_VARIABLE
from relab.testbed.scoring.responder import Bindings
from relab.testbed.scoring.running import CLOSING_S

_BASELINES: Final = "relab.testbed.scoring.baselines"
DO_NOTHING: Final = Bindings(responder_command=["{python}", "-m", f"{_BASELINES}.do_nothing"])
RESTART_ONLY: Final = Bindings(responder_command=["{python}", "-m", f"{_BASELINES}.restart_only"])
BASELINES: Final[Mapping[str, Bindings]] = {"do-nothing": DO_NOTHING, "restart-only": RESTART_ONLY}
PORT_BASE: Final = 23_000
_BEFORE_AND_AFTER_S: Final = 180.0
"""Allowance for the start of the testbed and the responder, and for stopping both."""
_MIN_TURNS: Final = 3
"""Minimum number of turns for which a trial's time-out has room. In a turn, one episode runs on the machine; trials of
other experiments wait for turns as well."""
_GRACE_S: Final = 45.0
_DATASET: Final = "episodes.jsonl"
_PRIMARY: Final = ("success", "harm_user_error_s")
_LOWER_IS_BETTER: Final = (
    "harm_user_error_s", "false_alarms", "time_to_detect_s", "time_to_mitigate_s", "detection_to_mitigation_s",
    "harmful_actions", "actions", "cost_usd", "right_repairs_judged_failed", "longest_unannounced_s",
)  # fmt: skip
_HIGHER_IS_BETTER: Final = (
    "detected", "diagnosis_at_1", "diagnosis_at_3", "mitigated", "mitigated_though_wrong", "escalated_harmless",
    "settled_harmless", "announced", "all_named",
)  # fmt: skip


def experiment_document(
    responders: Mapping[str, Bindings],
    episodes: Sequence[Episode],
    *,
    home: Path,
    port_base: int = PORT_BASE,
    hides: Sequence[Path] = (),
    concurrency: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the content of `.lab/experiment.yaml` for an experiment that compares responders on the same episodes.

    Args:
        responders: how to start each responder, by name; the first is the baseline of the comparison.
        episodes: the episodes (tests of a responder) in the order of the data set; every responder runs each of them.
        home: the home folder of relab in which the testbeds' files are stored; a short path outside the experiment's
            folder.
        port_base: the first port of the first testbed.
        hides: folders that responders must not see, because they reveal the planned faults.
        concurrency: number of episodes that run at the same time, each on its own testbed.
        seed: the experiment's `random_seed`.

    Raises:
        WrongEpisodeError: there are no episodes or no responders.
    """
    if not responders or not episodes:
        raise WrongEpisodeError("An experiment has at least one responder and one episode.")
    longest_s = max(episode.begins_s + episode.timeout_s for episode in episodes)
    starts_s = max(bindings.start_within_s for bindings in responders.values())
    # Responders that keep their home run one at a time, and a trial that needs the machine alone waits for all others.
    turns = max(concurrency, _MIN_TURNS)
    shared = {"port_base": port_base, "hides": [str(folder.absolute()) for folder in hides]}
    variants = [
        {"variant_id": name, "bindings": {**bindings.model_dump(mode="json"), **shared}}
        for name, bindings in responders.items()
    ]
    return {
        "version": "0.3",
        "experiment": {"id": "responders", "name": "Responders on episodes of the testbed"},
        "dataset": {"path": f"../{_DATASET}", "suite_id": "testbed-episodes"},
        "design": {
            # The harness starts servers whose sockets need short paths, so it needs the machine's own temporary folder.
            "sanitization_profile": "none",
            "random_seed": seed,
            "max_concurrency": concurrency,
        },
        **_questions(),
        "baseline": variants[0],
        "variant_plan": variants[1:],
        "runtime": {
            "harness": _harness(responders, home),
            "network": {"mode": "full"},
            "timeouts": {
                "trial_seconds": turns * (longest_s + starts_s + CLOSING_S + _BEFORE_AND_AFTER_S),
                "grace_seconds": _GRACE_S,
            },
        },
    }


def _harness(responders: Mapping[str, Bindings], home: Path) -> dict[str, Any]:
    # The harness gets only the variables that it passes on; it cannot leak any other variable to a responder.
    passes = {name for bindings in responders.values() for name in bindings.responder_passes}
    secrets = {name for bindings in responders.values() for name in bindings.responder_secrets}
    return {
        "command": [sys.executable, "-m", "relab.testbed.scoring"],
        "environment": {"pass": sorted(passes), "set": {HOME_VARIABLE: str(home)}},
        "secrets": sorted(secrets),
    }


def _questions() -> dict[str, Any]:
    """Return the sections `analysis` and `metrics` of an experiment's configuration.

    `analysis` names the metrics by which to compare the responders. `metrics` says for each metric where it is in a
    trial's output, and whether a higher value (`maximize`) or a lower value (`minimize`) is better.
    """
    directions = {"maximize": _HIGHER_IS_BETTER, "minimize": _LOWER_IS_BETTER}
    return {
        "analysis": {
            "primary_metrics": list(_PRIMARY),
            "secondary_metrics": [name for names in directions.values() for name in names if name not in _PRIMARY],
            "cluster_field": "subject",
        },
        "metrics": [
            {"id": name, "source": "output", "json_pointer": f"/metrics/{name}", "direction": direction}
            for direction, names in directions.items()
            for name in names
        ],
    }


def write_experiment(folder: Path, document: Mapping[str, Any], episodes: Iterable[Episode]) -> Path:
    """Write an experiment for `lab run` and its data set into a folder; return the path of its `experiment.yaml`.

    Args:
        folder: the folder of the experiment; it is created if it does not exist.
        document: the content of `experiment.yaml`, from `experiment_document`.
        episodes: the episodes (tests of a responder), each a row of the data set, in order.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / ".lab" / "experiment.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False), encoding="utf-8")
    rows = (json.dumps(episode.to_row()) + "\n" for episode in episodes)
    (folder / _DATASET).write_text("".join(rows), encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Write an experiment into the folder that the command line names.

    Args:
        arguments: the arguments of the command line; None for this process's arguments.

    Returns:
        The exit code: 0, or 1 if the experiment cannot be generated or written.
    """
    parser = argparse.ArgumentParser(prog="python -m relab.testbed.scoring.experiment")
    parser.add_argument("folder", type=Path, help="The folder of the experiment.")
    parser.add_argument("--home", type=Path, required=True, help="The home of the testbeds, with a short path.")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fault", action="append", help="Use only this fault; may be repeated.")
    parser.add_argument("--timeout", type=float, default=120.0, help="Seconds after the onset.")
    parser.add_argument("--port-base", type=int, default=PORT_BASE)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument(
        "--responder",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="A responder beside do-nothing and restart-only; may be repeated.",
    )
    args = parser.parse_args(arguments)
    try:
        responders = {**BASELINES, **dict(map(_responder, args.responder))}
        episodes = make_episodes(args.episodes, args.seed, faults=args.fault, timeout_s=args.timeout)
        document = experiment_document(
            responders,
            episodes,
            home=args.home.absolute(),
            port_base=args.port_base,
            hides=[args.folder],
            concurrency=args.concurrency,
            seed=args.seed,
        )
        path = write_experiment(args.folder, document, episodes)
    except (RelabError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


def _responder(text: str) -> tuple[str, Bindings]:
    name, equals, command = text.partition("=")
    if not (name and equals):
        raise WrongEpisodeError(f"--responder is NAME=COMMAND, not {text!r}.")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise WrongEpisodeError(f"The command of --responder {name!r} cannot be read: {error}.") from error
    return name, Bindings.read({"responder_command": words})


if __name__ == "__main__":
    sys.exit(main())
