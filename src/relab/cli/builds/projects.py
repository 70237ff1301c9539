"""Check the project name that a user gave; the commands that list builds, decisions or suggestions use this check."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relab.builds.service import BuildService


def check_project(builds: BuildService, project: str | None, items: Sequence[object]) -> None:
    """Reject the name of a project for which nothing is recorded.

    Without this check, the empty list for a wrong name would look like a result.

    Args:
        builds: the builds of this installation.
        project: the project that the command names; None if it names no project.
        items: the builds, decisions or suggestions that the command found. The project is checked only if this is
            empty.

    Raises:
        BuildProjectNotFoundError: nothing is recorded for the project.
    """
    if project is not None and not items:
        builds.check_project(project)
