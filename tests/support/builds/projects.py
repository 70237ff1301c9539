"""Small projects whose build runs a shell script that the test gives."""

from __future__ import annotations

from pathlib import Path

from relab.builds.monitor.build_file import BuildProject, read_project

BUILD_YAML = """\
name: tiny
command: [/bin/sh, build.sh]
sandbox: {sandbox}
max_log_mb: 4
max_written_mb: 8
defaults: {{memory_mb: 128, time_limit_s: 60}}
limits: {{memory_mb: 512, retries: 3, parallelism: 4}}
knobs:
  cache: {{"on": {{environment: {{CACHE: "{{cache}}"}}}}}}
  parallelism: {{any: {{environment: {{JOBS: "{{value}}"}}}}}}
  tests: {{all: {{}}, {selections}}}
"""


def write_project(folder: Path, script: str, *, sandbox: str = "auto", selections: str = "other: {}") -> BuildProject:
    """Write a project whose build runs a shell script, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "build.yaml").write_text(BUILD_YAML.format(sandbox=sandbox, selections=selections))
    (folder / "build.sh").write_text(script)
    return read_project(folder)
