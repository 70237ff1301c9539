"""Record the fixtures: `python -m rig.frameworks.record ENVIRONMENTS [framework ...]`.

Runs every case of every framework, and writes a recording for each and `expected.json` for each framework.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig.frameworks.cases import CASES
from rig.frameworks.catalogue import Framework, frameworks
from rig.frameworks.environments import prepare
from rig.frameworks.recordings import FIXTURES, SUFFIX, recording_path, without_machine, write_recording
from rig.frameworks.running import run_program
from rig.frameworks.truth import facts_of

EXPECTED = "expected.json"


def record(framework: Framework, environments: Path) -> None:
    """Record all cases that a framework can run, in place of older recordings of it."""
    facts, recordings = {}, {}
    for case in CASES:
        if case in framework.cannot:
            continue
        ran = run_program(framework, case, environments)
        exports = without_machine(ran.exports, framework, environments)
        recordings[case], facts[case] = exports, facts_of(framework, case, ran, exports)
    for path in (FIXTURES / framework.folder).glob(f"*{SUFFIX}"):
        path.unlink()
    for case, exports in recordings.items():
        write_recording(recording_path(framework.folder, case), exports)
    expected = {"title": framework.title, "cannot": dict(framework.cannot), "cases": facts}
    text = json.dumps(expected, indent=1, ensure_ascii=False) + "\n"
    (FIXTURES / framework.folder / EXPECTED).write_text(text)


def read_expected(framework: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the facts of the recorded cases of a framework, by case."""
    found: Mapping[str, Mapping[str, Any]] = json.loads((FIXTURES / framework / EXPECTED).read_text())["cases"]
    return found


def recorded_frameworks() -> list[str]:
    """Return the frameworks that have recordings, sorted."""
    return sorted(path.parent.name for path in FIXTURES.glob(f"*/{EXPECTED}"))


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for chosen in frameworks().values():
        if chosen.folder in names or not names:
            prepare(chosen, Path(folder).absolute())
            record(chosen, Path(folder).absolute())
            print(f"{chosen.folder}: recorded")
