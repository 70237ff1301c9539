"""Agents of real frameworks: their recorded telemetry becomes runs, and their programs still send the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from evals.framework_runs import ENDS_SOON, show
from evals.frameworks import replay_framework
from rig.frameworks.catalogue import Framework, frameworks
from rig.frameworks.environments import InstallError, prepare
from rig.frameworks.record import read_expected, recorded_frameworks
from rig.frameworks.recordings import FIXTURES, read_recording, recording_path, without_machine
from rig.frameworks.running import run_program
from rig.frameworks.truth import facts_of
from support.components.required import leave_out
from support.lab.installation import Installation, Lab

ENVIRONMENTS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "relab-frameworks")
"""The folder of the installed frameworks, outside the project and kept for the next run."""
ALL = frameworks()
KNOWN_MISSES: dict[str, dict[str, list[str]]] = json.loads((FIXTURES / "misses.json").read_text())
"""The facts that relab does not show correctly yet, by framework and case; a fact that it shows now must be removed."""
# CI installs only the light frameworks, because all together take several gigabytes.
REAL = sorted(name for name in ALL if ALL[name].is_light or os.environ.get("FRAMEWORKS") == "all")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An installation on SQLite only, because this test is about the content of spans and not about their storage."""
    installation = Installation.on_sqlite(tmp_path_factory.mktemp("lab"), **ENDS_SOON)
    with installation.serve() as server, Lab(installation, server) as lab:
        yield lab


@pytest.mark.parametrize("name", recorded_frameworks())
def test_recorded_telemetry_becomes_runs_with_the_known_facts(lab: Lab, name: str) -> None:
    marks = list(replay_framework(lab.http, name))

    missed: dict[str, list[str]] = {}
    for mark in marks:
        if not mark.is_right:
            missed[mark.case] = sorted([*missed.get(mark.case, []), mark.measure])
    assert {mark.case for mark in marks} == set(read_expected(name))
    assert missed == KNOWN_MISSES.get(name, {})


def environment_of(name: str) -> Framework:
    """Install a framework and return it, or skip the test."""
    try:
        prepare(ALL[name], ENVIRONMENTS)
    except InstallError as error:
        leave_out(
            ALL[name].title.split(",")[0], f"python -m rig.frameworks.environments {ENVIRONMENTS} {name}", str(error)
        )
    return ALL[name]


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", REAL)
def test_program_sends_the_recorded_telemetry(lab: Lab, name: str) -> None:
    framework = environment_of(name)
    for case in framework.cases:
        ran = run_program(framework, case, ENVIRONMENTS)

        assert facts_of(framework, case, ran, ran.exports) == read_expected(name)[case], case
        recorded = read_recording(recording_path(name, case))
        assert {export.path for export in ran.exports} == {export.path for export in recorded}, case
        exports = without_machine(ran.exports, framework, ENVIRONMENTS)
        now, then = (show(lab.http, sent) for sent in (exports, recorded))
        # On a busy machine an exporter may split the same telemetry into more requests.
        assert set(now.rejected) == set(then.rejected), case
        assert now._replace(rejected=()) == then._replace(rejected=()), case
