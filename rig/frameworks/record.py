"""Record the fixtures: `python -m rig.frameworks.record ENVIRONMENTS [framework[:case] ...]`.

It runs every case of every framework (or of the named ones, or only the named cases), with the virtual environments in
the folder ENVIRONMENTS, and writes a recording of each case, and `expected.json` with the true facts of its cases for
each framework.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig.frameworks.catalogue import Framework, frameworks
from rig.frameworks.environments import prepare
from rig.frameworks.recordings import FIXTURES, SUFFIX, recording_path, without_machine, write_recording
from rig.frameworks.running import run_program
from rig.frameworks.truth import facts_of

EXPECTED = "expected.json"


def record(framework: Framework, environments: Path, only: str | None = None) -> None:
    """Run all cases that a framework can run, and replace its recordings and `expected.json`.

    Args:
        framework: the framework.
        environments: the folder with the environments of all frameworks.
        only: the name of the only case to run and replace; None for all cases.

    Raises:
        ProgramError: a run of a case failed; no recording has been changed.
    """
    facts = {} if only is None else dict(read_expected(framework.folder))
    recordings = {}
    for case in framework.cases if only is None else [only]:
        ran = run_program(framework, case, environments)
        exports = without_machine(ran.exports, framework, environments)
        recordings[case], facts[case] = exports, facts_of(framework, case, ran, exports)
    for path in (FIXTURES / framework.folder).glob(f"*{SUFFIX}"):
        if only is None:
            path.unlink()
    for case, exports in recordings.items():
        write_recording(recording_path(framework.folder, case), exports)
    in_order = {case: facts[case] for case in framework.cases if case in facts}
    expected = {"title": framework.title, "cannot": dict(framework.cannot), "cases": in_order}
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
    known = frameworks()
    for name in names or known:
        chosen, _, case = name.partition(":")
        prepare(known[chosen], Path(folder).absolute())
        record(known[chosen], Path(folder).absolute(), case or None)
        print(f"{name}: recorded")
