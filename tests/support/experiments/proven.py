"""A project with a finished run whose files are of every kind, for tests of seals and of published bundles."""

from __future__ import annotations

from pathlib import Path

from support.experiments.projects import Project

HARNESS = """\
for step in (1, 2):
    event("agent_step_start", step_index=step)
    event("agent_step_end", step_index=step)
Path("notes.bin").write_bytes(bytes(range(256)) * 40)
os.symlink("notes.bin", "link")
Path(paths["state"], "memory").mkdir()
print("line 1\\nline 2\\nline 3")
answer(metrics={"score": 0.5}, answer={"text": "no secret here", "max_total_tokens": 1000000})
"""


def proven_project(folder: Path) -> Project:
    """Return a project whose two trials leave steps, a file with all byte values, a link and an empty folder."""
    made = Project.make(folder, HARNESS, tasks=2)
    made.configure(runtime={"harness": {"integration_level": "cli_events"}})
    return made
