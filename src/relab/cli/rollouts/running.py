"""Common parts of the commands that execute rollouts: recovery of interrupted rollouts, progress, exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from relab.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNDECIDED, plain

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.rollouts.service import RolloutProgress, RolloutRecord


def recover(services: Services) -> None:
    """Restore the flags that rollouts left changed, and report each of these rollouts on stderr."""
    for found in services.rollouts.recover():
        outcome = "restored" if found.restored else "NOT restored"
        print(
            f"lab: rollout {plain(found.rollout_id)} had left its flags changed; flags {outcome}: {plain(found.message)}",
            file=sys.stderr,
        )


def exit_code(record: RolloutRecord) -> int:
    """Return the exit code of a command that executed a rollout.

    The first rule that matches decides:

    - 130: the rollout was interrupted.
    - 0: there is no verdict, as after a dry run without measurement.
    - 2: the verdict is EDGE (between PASS and FAIL; a person decides) or INVALID (the measurement cannot be used).
    - 0: the verdict of a dry run is PASS, or the change is applied.
    - 1: all other cases.
    """
    from relab.rollouts.service import RolloutStatus
    from relab.stats.verdicts import Verdict

    if record.status is RolloutStatus.INTERRUPTED:
        return EXIT_INTERRUPTED
    if record.judgement is None:
        return 0
    if record.judgement.verdict in {Verdict.EDGE, Verdict.INVALID}:
        return EXIT_UNDECIDED
    if record.is_dry_run and record.judgement.verdict is Verdict.PASS:
        return 0
    is_applied = record.application is not None and record.application.applied
    return 0 if is_applied else EXIT_FAILED


@contextmanager
def show_progress(*, quiet: bool) -> Iterator[Callable[[RolloutProgress], None]]:
    """Yield a function that shows the progress of a rollout on stderr: as a bar in a terminal, otherwise as lines.

    With `quiet`, the function shows nothing.
    """
    if quiet:
        yield lambda _progress: None
    elif sys.stderr.isatty():
        with _bar() as show_bar:
            yield show_bar
    else:
        yield lambda progress: print(plain(progress.sentence()), file=sys.stderr, flush=True)


@contextmanager
def _bar() -> Iterator[Callable[[RolloutProgress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns: tuple[Any, ...] = (BarColumn(bar_width=20), TextColumn("{task.fields[figures]}", markup=False))
    # Drawn only between windows: a thread that draws would delay requests of the load.
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as bar:
        task = bar.add_task("rollout", total=1.0, figures="")

        def show_bar(progress: RolloutProgress) -> None:
            share = progress.windows_done / progress.windows_planned if progress.windows_planned else 0.0
            bar.update(task, completed=share, figures=plain(progress.sentence()))
            bar.refresh()

        yield show_bar
