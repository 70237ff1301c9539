"""`lab knowledge`: runbooks, what they are found by, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.output import EXIT_FAILED, JsonOption, plain, print_json, print_table

if TYPE_CHECKING:
    from relab.knowledge.service import Library

app = typer.Typer(
    help="Runbooks and past incidents: list, show, add, search, lint.",
    no_args_is_help=True,
)


@app.command("list")
def list_runbooks(as_json: JsonOption = False) -> None:
    """List the runbooks in use: the shipped ones, overlaid by those of the folder."""
    from relab.cli.context import open_services

    with open_services() as services:
        library, folder = services.knowledge.library(), services.knowledge.folder
    if as_json:
        print_json(
            "knowledge list",
            folder=str(folder),
            runbooks=[
                {
                    "cause": runbook.cause,
                    "title": runbook.title,
                    "risk": runbook.risk.value,
                    "prior": runbook.prior,
                    "actions": [each.action for each in runbook.actions],
                    "source": runbook.source,
                    "replaces_shipped": runbook.cause in library.replaced,
                }
                for runbook in library.runbooks
            ],
            problems=[{"place": place, "message": message} for place, message in library.problems],
        )
        return
    rows = (
        (each.cause, each.title, each.risk.value, ", ".join(action.action for action in each.actions), each.source)
        for each in library.runbooks
    )
    print_table("Runbooks", ("cause", "title", "risk", "actions", "file"), rows)
    _print_left_out(library)


@app.command()
def show(cause: Annotated[str, typer.Argument(help="Of the runbook.")], as_json: JsonOption = False) -> None:
    """Show the runbook of a cause as a file that `lab knowledge add` takes."""
    from relab.cli.context import open_services
    from relab.knowledge.service import write_runbook

    with open_services() as services:
        runbook = services.knowledge.runbook(cause)
    if as_json:
        print_json("knowledge show", cause=runbook.cause, source=runbook.source, text=write_runbook(runbook))
    else:
        print(plain(write_runbook(runbook)), end="")


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="A runbook: Markdown with front matter.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Also over the folder's own runbook of the cause.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a runbook and copy it into the folder; one of a shipped cause takes the shipped one's place."""
    from relab.cli.context import open_services

    with open_services() as services:
        runbook = services.knowledge.add(file, replace=replace)
    if as_json:
        print_json("knowledge add", cause=runbook.cause, source=runbook.source)
    else:
        print(f"The runbook of {plain(runbook.cause)} is in {plain(runbook.source)}.")


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(help="What is seen: a sentence, or a line of a log.")],
    limit: Annotated[int, typer.Option(min=1, max=100)] = 5,
    incidents: Annotated[bool, typer.Option("--incidents/--no-incidents", help="Also past incidents.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Find runbooks and past incidents by what is seen."""
    from relab.cli.context import open_services

    with open_services() as services:
        hits = services.knowledge.search(" ".join(words), limit=limit, with_incidents=incidents)
    if as_json:
        found = [
            {"kind": hit.kind.value, "id": hit.id, "cause": hit.cause, "title": hit.title, "score": round(hit.score, 4)}
            for hit in hits
        ]
        print_json("knowledge search", hits=found)
        return
    rows = ((hit.cause, hit.kind.value, hit.title, hit.id, f"{hit.score:.2f}") for hit in hits)
    print_table(f"{len(hits)} found", ("cause", "kind", "title", "id", "score"), rows)


@app.command()
def lint(
    strict: Annotated[bool, typer.Option("--strict", help="Fail also on warnings.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Say what is to be mended in the runbooks; exit code 1 if one of them cannot be used as it is."""
    from relab.cli.context import open_services
    from relab.knowledge.service import Weight

    with open_services() as services:
        remarks = services.knowledge.lint()
        count = len(services.knowledge.library().runbooks)
    failed = [each for each in remarks if strict or each.weight is Weight.ERROR]
    if as_json:
        told = [
            {"weight": each.weight.value, "source": each.source, "field": each.field, "message": each.message}
            for each in remarks
        ]
        print_json("knowledge lint", passed=not failed, runbooks=count, remarks=told)
    else:
        for each in remarks:
            print(f"{each.weight.value}: {plain(each.source)}: {plain(each.field)}: {plain(each.message)}")
        print(f"{count} runbooks, {len(remarks)} remarks.")
    return EXIT_FAILED if failed else 0


def _print_left_out(library: Library) -> None:
    for place, message in library.problems:
        print(f"left out: {plain(place)}: {plain(message)}")
