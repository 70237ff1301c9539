"""`lab knowledge incidents|delete|correct`: list past incidents, delete one, or correct its cause."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, print_json, print_table

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.knowledge.models import PastIncident, Relearnt

IncidentId = Annotated[str, typer.Argument(help="Id of the past incident.")]


def incidents(
    cause: Annotated[
        str | None, typer.Option(help="Only this cause; `unknown` is the cause of incidents without a runbook.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Only this target.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List past incidents, the latest first, with the cause of each, the actions that helped, and who resolved it."""
    from relab.core.clock import format_time

    with open_services() as services:
        found = services.knowledge.latest(cause=cause, target=target, limit=limit)
    if as_json:
        print_json("knowledge incidents", incidents=[_shown(each) for each in found])
        return
    rows = (
        (
            each.incident_id,
            format_time(each.resolved_at),
            each.target,
            each.cause,
            ", ".join(act.action for act in each.helped) or None,
            f"{each.resolved_by.value} {each.resolver}".rstrip(),
        )
        for each in found
    )
    columns = ("incident", "resolved", "target", "cause", "actions that helped", "resolved by")
    print_table(
        "Past incidents", columns, rows, empty="No past incidents found. relab stores each incident when it ends."
    )


def delete(incident_id: IncidentId, as_json: JsonOption = False) -> None:
    """Delete a past incident from the knowledge, so that relab does not learn from it any more.

    `lab incidents` still shows the incident itself.
    """
    with open_services() as services:
        change = services.knowledge.delete(incident_id)
        drafts = _drafts(services, change)
    if as_json:
        print_json("knowledge delete", **_shown_change(change, drafts))
        return
    print(f"{plain(change.incident.incident_id)} is deleted; nothing is learnt from it any more.")
    _print_change(change, drafts)


def correct(
    incident_id: IncidentId,
    cause: Annotated[str, typer.Option(help="The correct cause: the cause of a runbook, or `unknown`.")],
    as_json: JsonOption = False,
) -> None:
    """Correct the cause of a past incident, and update the runbooks that are learnt from it."""
    with open_services() as services:
        change = services.knowledge.correct(incident_id, cause)
        drafts = _drafts(services, change)
    if as_json:
        print_json("knowledge correct", **_shown_change(change, drafts))
        return
    print(f"The cause of {plain(change.incident.incident_id)} is now {plain(change.incident.cause)}.")
    _print_change(change, drafts)


def _drafts(services: Services, change: Relearnt) -> list[Path]:
    """Return the paths of the drafts of learnt runbooks that `change` took out of use.

    A draft is the file of a runbook that no person has accepted yet.

    Args:
        services: the services of the command.
        change: the effects of the deletion or correction of a past incident. Its field `gone` has the causes of the
            runbooks that are no longer used.
    """
    # The caller only names the files, because a person may be editing them.
    return [each.path for each in services.knowledge.drafts()[0] if each.runbook.cause in change.gone]


def _shown(incident: PastIncident) -> dict[str, Any]:
    shown = incident.model_dump(mode="json", exclude={"facts", "templates", "well"})
    return shown | {"helped": [act.action for act in incident.helped]}


def _shown_change(change: Relearnt, drafts: list[Path]) -> dict[str, Any]:
    return {
        "incident": _shown(change.incident),
        "no_longer_used": list(change.gone),
        "used_now": list(change.new),
        "drafts": [str(path) for path in drafts],
    }


def _print_change(change: Relearnt, drafts: list[Path]) -> None:
    for cause in change.gone:
        print(f"The learnt runbook {plain(cause)} is no longer used.")
    for cause in change.new:
        print(f"The learnt runbook {plain(cause)} is used from now on.")
    for path in drafts:
        print(f"Its draft is kept until you delete it: {plain(path)}")
