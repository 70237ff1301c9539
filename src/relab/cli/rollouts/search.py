"""`lab rollout search`: try many values of flags, and apply the best ones if a confirming rollout passes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.context import open_services, operator
from relab.cli.output import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_UNDECIDED, JsonOption, plain_lines, print_json
from relab.cli.rollouts.running import recover, show_progress
from relab.cli.stopping import stoppable
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.rollouts.search.service import SearchResult


def search(
    config: Annotated[Path | None, typer.Argument(metavar="FILE", help="The search file.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the search whose report (search.json) this is.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the file and the target, and show the cost; measure nothing.")
    ] = False,
    headless: Annotated[bool, typer.Option("--headless", help="Show no progress.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Try candidates (values of flags) in short rollouts that are undone, then confirm the best one by a whole rollout.

    Exit code 0: a candidate passed its confirmation and is in force. 1: the confirmation failed. 2: no candidate was
    good enough for a confirmation, or the verdict of the confirmation was EDGE (between PASS and FAIL) or INVALID (the
    measurement cannot be used). 64: the file is invalid. 69: the target cannot be used. 130: stopped.
    """
    from relab.rollouts.search.service import RolloutSearch, new_search, read_result, read_search, search_text

    if (config is None) == (resume is None):
        raise InvalidInputError("Give either a search file, or --resume SEARCH_JSON.")
    begun = read_result(resume) if resume is not None else new_search(read_search(config or Path()))
    with open_services() as services:
        recover(services)
        with stoppable() as stop, show_progress(quiet=headless or as_json) as progress:
            runner = RolloutSearch(services.rollouts, operator(), stop, progress, Path.cwd())
            found, cost_s = (
                (runner.check(begun), begun.spec.greatest_cost_s()) if dry_run else (runner.run(begun), None)
            )
            is_stopped = stop.is_set()
    if as_json:
        print_json("rollout search", search=found.model_dump(mode="json"), greatest_cost_s=cost_s)
    else:
        print(plain_lines(search_text(found)), end="")
        if cost_s is not None:
            print(f"At most {cost_s:,.0f} s of windows; nothing was changed or measured.")
    if dry_run:
        return 0
    return EXIT_INTERRUPTED if is_stopped and not found.finished else _exit_code(found)


def _exit_code(found: SearchResult) -> int:
    if found.chosen is not None:
        return 0
    verdict = found.confirmations[-1].verdict if found.confirmations else None
    return EXIT_FAILED if verdict is not None and verdict.value in {"PASS", "FAIL"} else EXIT_UNDECIDED
