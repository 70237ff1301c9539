"""Measure the example's builds with each fault and each action: `python -m evals.build_measurements OUTPUT [REPEATS]`.

The simulator of builds is fitted to the output.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from threading import Event

from relab.bootstrap import build
from relab.builds.models import Build, BuildConfiguration
from relab.builds.monitor.build_file import BuildProject, read_project
from relab.builds.optimizer.catalogue import CATALOGUE_VERSION, possible_actions
from relab.settings import load_settings

EXAMPLE = Path(__file__).parent.parent / "examples" / "build"
FAULTS = ("none", "memory", "dependency", "timeout", "pull", "flaky")


def project_with(fault: str, folder: Path) -> BuildProject:
    shutil.copytree(EXAMPLE, folder)
    settings = folder / "settings.mk"
    settings.write_text(re.sub(r"^FAULT = .*$", f"FAULT = {fault}", settings.read_text(), flags=re.MULTILINE))
    return read_project(folder)


def row_of(fault: str, action_id: int, build: Build) -> dict[str, object]:
    result = build.result
    return {
        "fault": fault,
        "action_id": action_id,
        "status": result.status.value,
        "failure": None if result.failure is None else result.failure.value,
        "error": result.error,
        "duration_s": result.duration_s,
        "peak_memory_mb": result.peak_memory_mb,
    }


def measure(repeats: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for repeat in range(repeats):
        for fault in FAULTS:
            with tempfile.TemporaryDirectory() as name:
                home = Path(name)
                services = build(load_settings(home / "home"))
                services.prepare()
                project = project_with(fault, home / "project")

                def run(configuration: BuildConfiguration, project: BuildProject = project) -> Build:
                    alone = configuration.model_copy(update={"retries": 0})
                    return services.builds.run(project, alone, stop=Event()).builds[-1]  # noqa: B023

                rows.append(row_of(fault, 0, run(project.file.defaults)))
                after = possible_actions(
                    project.file.defaults, project.file.largest, tuple(project.file.test_selections)
                )
                for action_id, configuration in after.items():
                    if action_id == 0:
                        continue
                    if configuration.incremental:
                        # Restore the failed build's workspace, in which an incremental build must start.
                        run(project.file.defaults)
                    rows.append(row_of(fault, action_id, run(configuration)))
                    if configuration.cache or configuration.incremental:
                        # The second build uses the cache or workspace of the first one.
                        rows.append(row_of(fault, action_id, run(configuration)))
                services.close()
            print(f"repeat {repeat + 1}: {fault}, {len(rows)} builds", file=sys.stderr, flush=True)
    return rows


def main(output: str, repeats: str = "3") -> None:
    rows = measure(int(repeats))
    document = {"project": "example", "catalogue_version": CATALOGUE_VERSION, "builds": rows}
    Path(output).write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
