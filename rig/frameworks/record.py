"""Record the fixtures: `python -m rig.frameworks.record ENVIRONMENTS [framework ...]`.

It runs every case of every framework (or of the named ones), with the virtual environments in the folder ENVIRONMENTS,
and writes a recording of each case, and `expected.json` with the true facts of its cases for each framework.
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
    """Run all cases that a framework can run, and replace its recordings and `expected.json`.

    Args:
        framework: the framework.
        environments: the folder with the environments of all frameworks.

    Raises:
        ProgramError: a run of a case failed; no recording has been changed.
    """
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
    """Return the facts (see `truth.facts_of`) of a framework's recorded cases, by case.

    `framework` is the name of its folder.
    """
    found: Mapping[str, Mapping[str, Any]] = json.loads((FIXTURES / framework / EXPECTED).read_text())["cases"]
    return found


def recorded_frameworks() -> list[str]:
    """Return the folder names of the frameworks that have recordings, sorted."""
    return sorted(path.parent.name for path in FIXTURES.glob(f"*/{EXPECTED}"))


if __name__ == "__main__":
    folder, *names = sys.argv[1:]
    for chosen in frameworks().values():
        if chosen.folder in names or not names:
            prepare(chosen, Path(folder).absolute())
            record(chosen, Path(folder).absolute())
            print(f"{chosen.folder}: recorded")
