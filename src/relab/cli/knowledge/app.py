"""`lab knowledge`: list, search, check and change runbooks and past incidents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.context import open_services, read_settings
from relab.cli.knowledge.incidents import correct, delete, incidents
from relab.cli.output import EXIT_FAILED, JsonOption, plain, plain_lines, print_json, print_table

if TYPE_CHECKING:
    from relab.knowledge.models import Hit
    from relab.knowledge.service import FileProblem, Surroundings
    from relab.settings import Settings

app = typer.Typer(
    help="Runbooks and past incidents: list, show, add, search, lint, drafts, accept, incidents, delete, correct.",
    no_args_is_help=True,
)
app.command()(incidents)
app.command()(delete)
app.command()(correct)

AskOption = Annotated[
    bool,
    typer.Option(
        "--ask", help="Ask ACTION_SERVER_URL for its actions. Without it, the actions of the testbed are used."
    ),
]


@app.command("list")
def list_runbooks(as_json: JsonOption = False) -> None:
    """List the runbooks in use: all in the folder of runbooks, and the shipped runbooks for all other causes."""
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
    _print_left_out(library.problems)


@app.command()
def show(cause: Annotated[str, typer.Argument(help="Cause of the runbook.")], as_json: JsonOption = False) -> None:
    """Print the runbook of a cause, in the format of `lab knowledge add`."""
    from relab.knowledge.service import write_runbook

    with open_services() as services:
        runbook = services.knowledge.runbook(cause)
    if as_json:
        print_json("knowledge show", cause=runbook.cause, source=runbook.source, text=write_runbook(runbook))
    else:
        print(plain_lines(write_runbook(runbook)), end="")


@app.command()
def add(
    file: Annotated[
        Path, typer.Argument(help="A runbook (Markdown with front matter), or a known failure of builds (with signs).")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Replace the folder's own runbook of the cause.")] = False,
    ask: AskOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a runbook as `lab knowledge lint` does, and copy it into the folder of runbooks.

    The runbook replaces the shipped runbook of the same cause. The file may instead be a known failure of builds: one
    section with signs and without front matter, in the format of relab's own known failures (`incidents.md` in the
    source code). It replaces the shipped known failure with the same id.
    """
    if _is_known_failure(file):
        _teach(file, replace=replace, as_json=as_json)
        return

    with open_services() as services:
        around = _surroundings(services.settings, ask=ask)
        runbook = services.knowledge.add(file, replace=replace, surroundings=around)
    if as_json:
        print_json("knowledge add", cause=runbook.cause, source=runbook.source)
    else:
        print(f"The runbook of {plain(runbook.cause)} is in {plain(runbook.source)}.")


def _is_known_failure(file: Path) -> bool:
    from relab.knowledge.service import read_text

    text = read_text(file).removeprefix("\ufeff")
    # A runbook begins with YAML front matter; a known failure does not.
    return not text.lstrip().startswith("---") and "\n- sign:" in text


def _teach(file: Path, *, replace: bool, as_json: bool) -> None:
    from relab.builds.suggestions.service import teach

    failure, source = teach(file, read_settings().taught_failures, replace=replace)
    if as_json:
        print_json("knowledge add", failure=failure.id, source=str(source))
    else:
        print(f"The known failure {plain(failure.id)} is in {plain(source)}.")


@app.command()
def search(
    words: Annotated[list[str], typer.Argument(help="A description: a sentence, or a log line.")],
    limit: Annotated[int, typer.Option(min=1, max=100)] = 5,
    with_incidents: Annotated[
        bool, typer.Option("--incidents/--no-incidents", help="Search past incidents too.")
    ] = True,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Show the rank by words, the rank by meaning, and the similarity in meaning."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Search runbooks and past incidents by a description.

    The search compares words and, with the extra [embeddings], also the meaning.
    """
    with open_services() as services:
        hits = services.knowledge.search(" ".join(words), limit=limit, with_incidents=with_incidents)
    if as_json:
        print_json("knowledge search", hits=[_shown(hit, explain=explain) for hit in hits])
        return
    columns = ["cause", "kind", "title", "id", "score"]
    rows = [[hit.cause, hit.kind.value, hit.title, hit.id, _figure(hit.score, 4)] for hit in hits]
    if explain:
        columns += ["rank by words", "rank by meaning", "similarity in meaning"]
        for row, hit in zip(rows, hits, strict=True):
            row += [_figure(hit.by_words, 0), _figure(hit.by_meaning, 0), _figure(hit.likeness, 2)]
    print_table("Runbooks and past incidents", columns, rows, empty="Nothing found. All runbooks: lab knowledge list")


def _shown(hit: Hit, *, explain: bool) -> dict[str, object]:
    shown: dict[str, object] = {"kind": hit.kind.value, "id": hit.id, "cause": hit.cause, "title": hit.title}
    shown["score"] = round(hit.score, 4)
    if explain:
        likeness = None if hit.likeness is None else round(hit.likeness, 4)
        shown |= {"by_words": hit.by_words, "by_meaning": hit.by_meaning, "likeness": likeness}
    return shown


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


@app.command()
def drafts(
    cause: Annotated[
        str | None, typer.Argument(help="Print the difference between this draft and the runbook in use.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the runbooks that relab drafted from past incidents and that a person has not accepted yet."""
    with open_services() as services:
        found, problems = services.knowledge.drafts()
        if cause is not None:
            found = [services.knowledge.get_draft(cause)]
    if as_json:
        rows = [
            {
                "cause": each.runbook.cause,
                "title": each.runbook.title,
                "file": str(each.path),
                "is_new": each.is_new,
                "diff": each.diff,
            }
            for each in found
        ]
        shown = [{"place": place, "message": message} for place, message in problems]
        print_json("knowledge drafts", drafts=rows, problems=shown)
        return
    if cause is not None:
        print(plain_lines(found[0].diff), end="")
        return
    kinds = ((each.runbook.cause, "new" if each.is_new else "change", each.runbook.title, each.path) for each in found)
    empty = "No drafts found. relab drafts a runbook when a person has repaired an incident."
    print_table("Drafts", ("cause", "kind", "title", "file"), kinds, empty=empty)
    _print_left_out(problems)


@app.command()
def accept(
    cause: Annotated[str, typer.Argument(help="Cause of the draft.")],
    as_json: JsonOption = False,
) -> None:
    """Put the draft of a runbook into use. It replaces the runbook of the same cause.

    Read the draft first: lab knowledge drafts CAUSE.
    """
    with open_services() as services:
        runbook = services.knowledge.accept(cause)
    if as_json:
        print_json("knowledge accept", cause=runbook.cause, source=runbook.source)
    else:
        print(f"The runbook of {plain(runbook.cause)} is in {plain(runbook.source)}.")


@app.command()
def lint(
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    ask: AskOption = False,
    as_json: JsonOption = False,
) -> int:
    """Print what should be corrected in the runbooks. Exit code 1 if one of them cannot be used."""
    from relab.knowledge.service import Weight

    with open_services() as services:
        remarks = services.knowledge.lint(_surroundings(services.settings, ask=ask))
        count = len(services.knowledge.library().runbooks)
    failed = [each for each in remarks if strict or each.weight is Weight.ERROR]
    if as_json:
        shown = [
            {
                "weight": each.weight.value,
                "source": each.source,
                "line": each.line,
                "field": each.field,
                "message": each.message,
            }
            for each in remarks
        ]
        print_json("knowledge lint", passed=not failed, runbooks=count, remarks=shown)
    else:
        for each in remarks:
            print(f"{each.weight.value}: {plain(each.place)}: {plain(each.message)}")
        print(f"{count} runbooks, {len(remarks)} remarks.")
    return EXIT_FAILED if failed else 0


def _surroundings(settings: Settings, *, ask: bool) -> Surroundings:
    """Return the probes, the facts and the actions that runbooks may use.

    If `ask` is true, the actions are those that the configured action server offers. Otherwise, they are those of
    relab's own action server.
    """
    from relab.incidents.capabilities import capabilities, offered_actions

    if not ask:
        return capabilities()
    token = settings.action_server_token
    return capabilities(
        offered_actions(settings.action_server_url, None if token is None else token.get_secret_value())
    )


def _print_left_out(problems: Sequence[FileProblem]) -> None:
    for place, message in problems:
        print(f"not used: {plain(place)}: {plain(message)}")
