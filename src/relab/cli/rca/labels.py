"""`lab rca label` and `lab rca labels`: state the first mistake of runs, and measure how often reports find it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.context import open_services, operator
from relab.cli.output import JsonOption, plain, print_json, print_table, write_text
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.rca.service import LabelScore


def label(
    run_id: Annotated[str, typer.Argument(help="The agent run's id.")],
    step: Annotated[str | None, typer.Option(help="The id of the step that went wrong first.")] = None,
    category: Annotated[
        str | None, typer.Option(help="A category or detail of reports, such as timeout, or a name of your own.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option(help="The agent that went wrong first; by default the agent of the step.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Why, for people.")] = None,
    behaviour: Annotated[
        str | None, typer.Option(help="Label instead that the run shows this behaviour (lab rca rules).")
    ] = None,
    not_shown: Annotated[bool, typer.Option("--not-shown", help="The run does not show the behaviour.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Delete the label of the run.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Record your judgement of a run: the step that went wrong first. Your older label is replaced.

    Without options, show the label. With --behaviour, record whether the run shows a behaviour (a pattern of a rule).
    """
    from pydantic import ValidationError

    from relab.core.validation import problems_of
    from relab.rca.service import NewLabel

    given = {"step_id": step, "category": category, "agent_name": agent, "note": note}
    is_new = any(value is not None for value in given.values())
    if behaviour is not None:
        if is_new or (remove and not_shown):
            raise typer.BadParameter("--behaviour takes only --not-shown or --remove beside it.")
        _label_behaviour(run_id, behaviour, is_shown=not not_shown, removes=remove, as_json=as_json)
        return
    if not_shown:
        raise typer.BadParameter("--not-shown belongs to --behaviour.")
    if is_new and remove:
        raise typer.BadParameter("--remove takes no other option.")
    with open_services() as services:
        labels = services.rca.labels
        if remove:
            labels.remove(run_id)
            if as_json:
                print_json("rca label", run_id=run_id, removed=True)
            else:
                print(f"The label of {plain(run_id)} is deleted.")
            return
        if is_new:
            try:
                wanted = NewLabel.model_validate(given)
            except ValidationError as error:
                raise InvalidInputError("The label is not valid.", problems=problems_of(error, root="label")) from error
            found = labels.save(run_id, wanted, by=operator())
        else:
            found = labels.get(run_id)
    if as_json:
        print_json("rca label", **found.model_dump(mode="json"))
        return
    print_table(f"Label of {run_id}", ("field", "value"), found.model_dump(mode="json").items())


def _label_behaviour(run_id: str, behaviour: str, *, is_shown: bool, removes: bool, as_json: bool) -> None:

    with open_services() as services:
        labels = services.rca.behaviours.labels
        if removes:
            labels.remove(run_id, behaviour)
        else:
            labels.save(run_id, behaviour, is_shown=is_shown, by=operator())
    if as_json:
        print_json(
            "rca label", run_id=run_id, behaviour=behaviour, is_shown=None if removes else is_shown, removed=removes
        )
    elif removes:
        print(f"The label of {plain(run_id)} for {plain(behaviour)} is deleted.")
    else:
        print(f"{plain(run_id)} {'shows' if is_shown else 'does not show'} {plain(behaviour)}.")


def labels(
    measure: Annotated[
        bool, typer.Option("--measure", help="Analyse the labelled runs and show how often reports agree.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write all labels to this file, one JSON object per line.")
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the previous page printed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List labels, newest first; or measure how often reports agree with the labels; or export the labels."""
    with open_services() as services:
        keeper = services.rca.labels
        if measure:
            scores = keeper.measure()
            if as_json:
                print_json("rca labels", **scores.model_dump(mode="json"))
                return
            print_table(
                "Agreement of reports with labels",
                ("measure", "runs", "agree", "rate", "95 % interval"),
                map(_row, scores.scores),
            )
            print(
                f"{scores.labelled} labelled runs; {scores.changed} changed after the label was made; "
                f"for {scores.abstained} the report names no place."
            )
            return
        if export is not None:
            lines = [each.model_dump_json() for each in keeper.all()]
            write_text(export, "".join(f"{line}\n" for line in lines), overwrite=False, option="another file")
            print(f"Written: {plain(export.resolve())} ({len(lines)} labels)")
            return
        page = keeper.page(cursor=cursor, limit=limit)
    if as_json:
        print_json("rca labels", **page.model_dump(mode="json"))
        return
    rows = (
        (each.run_id, each.step_id, each.agent_name, each.category, each.labelled_by, each.note) for each in page.items
    )
    empty = "No labels found. To label a run: lab rca label RUN --step STEP_ID"
    print_table("Labels", ("run", "step", "agent", "category", "by", "note"), rows, empty=empty)
    if page.next_cursor is not None:
        print(f"There are more labels; continue with --cursor {plain(page.next_cursor)}.")


def _row(score: LabelScore) -> tuple[object, ...]:
    if score.rate is None or score.low is None or score.high is None:
        return score.question, 0, 0, None, None
    return score.question, score.n, score.hits, f"{score.rate:.0%}", f"{score.low:.0%} to {score.high:.0%}"
