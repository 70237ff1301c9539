"""`lab knowledge incidents|forget|correct`: what is remembered of incidents, and taking back what was learnt wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.output import JsonOption, plain, print_json, print_table

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.knowledge.models import PastIncident, Relearnt

IncidentId = Annotated[str, typer.Argument(help="Of the past incident.")]


def incidents(
    cause: Annotated[str | None, typer.Option(help="Only of this cause; unknown: of none that a runbook has.")] = None,
    target: Annotated[str | None, typer.Option(help="Only of this target, by its name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List the incidents that are remembered, the last that ended first: what each was, what helped, who ended it."""
    from relab.cli.context import open_services
    from relab.core.clock import format_time

    with open_services() as services:
        found = services.knowledge.latest(cause=cause, target=target, limit=limit)
    if as_json:
        print_json("knowledge incidents", incidents=[_told(each) for each in found])
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
    print_table("Past incidents", ("incident", "over", "target", "cause", "what helped", "ended by"), rows)


def forget(incident_id: IncidentId, as_json: JsonOption = False) -> None:
    """Delete a past incident: nothing is learnt from it any more. The incident itself stays in `lab incidents`."""
    from relab.cli.context import open_services

    with open_services() as services:
        change = services.knowledge.forget(incident_id)
        drafts = _drafts(services, change)
    if as_json:
        print_json("knowledge forget", **_told_change(change, drafts))
        return
    print(f"{plain(change.incident.incident_id)} is forgotten: it speaks for {plain(change.incident.cause)} no more.")
    _print_change(change, drafts)


def correct(
    incident_id: IncidentId,
    cause: Annotated[str, typer.Option(help="What it was: the cause of a runbook, or unknown.")],
    as_json: JsonOption = False,
) -> None:
    """Say what the cause of a past incident was; what is learnt from it is learnt anew."""
    from relab.cli.context import open_services

    with open_services() as services:
        change = services.knowledge.correct(incident_id, cause)
        drafts = _drafts(services, change)
    if as_json:
        print_json("knowledge correct", **_told_change(change, drafts))
        return
    print(f"{plain(change.incident.incident_id)} is remembered as {plain(change.incident.cause)}.")
    _print_change(change, drafts)


def _drafts(services: Services, change: Relearnt) -> list[Path]:
    """Return the drafts that were made of what is not in use any more: a person may be at work on them."""
    return [each.path for each in services.knowledge.drafts()[0] if each.runbook.cause in change.gone]


def _told(incident: PastIncident) -> dict[str, Any]:
    told = incident.model_dump(mode="json", exclude={"facts", "templates", "well"})
    return told | {"helped": [act.action for act in incident.helped]}


def _told_change(change: Relearnt, drafts: list[Path]) -> dict[str, Any]:
    return {
        "incident": _told(change.incident),
        "no_longer_used": list(change.gone),
        "used_now": list(change.new),
        "drafts": [str(path) for path in drafts],
    }


def _print_change(change: Relearnt, drafts: list[Path]) -> None:
    for cause in change.gone:
        print(f"The runbook of experience {plain(cause)} is not used any more.")
    for cause in change.new:
        print(f"The runbook of experience {plain(cause)} is used from now on.")
    for path in drafts:
        print(f"Its draft stays until you delete it: {plain(path)}")
