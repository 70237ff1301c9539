"""`lab builds suggestions`, `accept` and `reject`: suggestions for failed builds, and people's verdicts on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.builds.projects import check_project
from relab.cli.choices import choice_of
from relab.cli.context import open_services, operator
from relab.cli.output import JsonOption, plain, print_json, print_table
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.builds.service import StoredSuggestion

SuggestionId = Annotated[str, typer.Argument(metavar="ID", help="The suggestion's id.")]
Note = Annotated[
    str, typer.Option(help="The reason, or the fix that helped, which is quoted when a build fails in the same way.")
]
_SHOWN_CHARS = 60


def suggestions(
    project: Annotated[str | None, typer.Argument(help="Only suggestions for this project.")] = None,
    status: Annotated[str | None, typer.Option(help="open | accepted | rejected")] = None,
    before: Annotated[str | None, typer.Option(help="Only suggestions before this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the suggestions for failed builds, newest first, with the line that showed each failure."""
    from relab.builds.service import SuggestionState
    from relab.core.clock import format_time

    wanted = choice_of(SuggestionState, "--status", "a status", status)
    with open_services() as services:
        page = services.builds.suggestions.list_suggestions(project=project, state=wanted, before=before, limit=limit)
        check_project(services.builds, project, page.items)
    if as_json:
        print_json("builds suggestions", **page.model_dump(mode="json"))
        return
    rows = (
        (
            item.suggestion_id,
            item.project,
            format_time(item.suggested_at),
            item.state.value,
            item.incident,
            f"{item.confidence:.2f}",
            item.templates[0][:_SHOWN_CHARS] if item.templates else None,
        )
        for item in page.items
    )
    columns = ("suggestion", "project", "time", "status", "known failure", "confidence", "line of the log")
    print_table(
        "Suggestions", columns, rows, empty="No suggestions found. A failed build gets one: lab builds run PROJECT"
    )
    if page.next_before is not None:
        print(f"More suggestions: --before {plain(page.next_before)}")


def accept(suggestion_id: SuggestionId, note: Note = "", as_json: JsonOption = False) -> None:
    """Accept a suggestion, because it helped. The verdict influences later suggestions for the same kind of failure.

    The note says what fixed the build; it is useful even if the suggestion named no known failure. A new verdict
    replaces the earlier one.
    """
    _judge("accepted", "builds accept", suggestion_id, note, as_json=as_json)


def reject(suggestion_id: SuggestionId, note: Note = "", as_json: JsonOption = False) -> None:
    """Reject a suggestion, because it was wrong.

    Verdicts are counted for each known failure and each kind of log line that showed it. After two more rejections than
    acceptances, relab no longer suggests this known failure for such lines. A new verdict replaces the earlier one.
    """
    _judge("rejected", "builds reject", suggestion_id, note, as_json=as_json)


def _judge(verdict: str, command: str, suggestion_id: str, note: str, *, as_json: bool) -> None:
    from pydantic import ValidationError

    from relab.builds.service import VerdictRequest

    try:
        request = VerdictRequest.model_validate({"verdict": verdict, "note": note})
    except ValidationError:
        raise InvalidInputError("--note is too long.", remedy="Use at most 1,000 characters.") from None
    with open_services() as services:
        found = services.builds.suggestions.judge(suggestion_id, request.verdict, by=operator(), note=request.note)
    if as_json:
        print_json(command, suggestion=found.model_dump(mode="json"))
    else:
        print(_sentence(found))


def _sentence(found: StoredSuggestion) -> str:
    last = found.verdicts[-1]
    about = found.title or "no known failure"
    return f"{found.state.value} by {plain(last.by)}: {plain(about)}{f' ({plain(last.note)})' if last.note else ''}"
