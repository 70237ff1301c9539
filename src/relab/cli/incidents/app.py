"""`lab incidents`: show the responder's incidents, and pass the decisions of people on to the responder."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.choices import choice_of
from relab.cli.context import open_services
from relab.cli.incidents.eval import evaluate
from relab.cli.incidents.postmortem import postmortem
from relab.cli.incidents.prune import prune
from relab.cli.output import JsonOption, argument, plain, print_json, print_table
from relab.core.errors import NotFoundError

if TYPE_CHECKING:
    from threading import Event

    from relab.incidents.service import (
        Briefing,
        Decision,
        IncidentDetails,
        IncidentService,
        IncidentStatus,
        SwitchState,
        TimelineEvent,
    )

app = typer.Typer(
    help="Incidents: watch, list, show, approve, reject, close, dismiss, trigger, pause, resume, postmortem, prune, eval.",
    no_args_is_help=True,
)
app.command("eval")(evaluate)
app.command()(postmortem)
app.command()(prune)

POLL_S = 0.5
NEWEST = 50
_NO_INCIDENTS = "No incidents found. To watch a service: lab serve --only incidents (docs/incidents.md)"

IncidentId = Annotated[str, typer.Argument(help="The id of the incident.")]
QuestionId = Annotated[
    str, typer.Argument(help="The id of the approval request, or of the incident (then its last request is answered).")
]
By = Annotated[str, typer.Option(help="Your name, for the timeline.")]
Note = Annotated[str, typer.Option(help="The reason, for the timeline.")]
Status = Annotated[list[str] | None, typer.Option(help="Only incidents with this status; may be repeated.")]
TargetName = Annotated[str | None, typer.Option("--target", help="The name of the target. Default: all targets.")]


@app.command("list")
def list_incidents(
    status: Status = None,
    target: TargetName = None,
    cursor: Annotated[str | None, typer.Option(help="The cursor that the previous page printed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    as_json: JsonOption = False,
) -> None:
    """List incidents, newest first."""
    from relab.core.clock import format_time

    statuses = _statuses(status or [])
    with open_services() as services:
        page = services.incidents.log.list_incidents(target=target, statuses=statuses, cursor=cursor, limit=limit)
    if as_json:
        print_json("incidents list", **page.model_dump(mode="json"))
        return
    rows = (
        (
            each.incident_id,
            each.status.value,
            each.severity.value,
            each.diagnosis,
            format_time(each.opened_at),
            each.title,
        )
        for each in page.items
    )
    columns = ("incident", "status", "severity", "diagnosis", "opened", "title")
    print_table("Incidents", columns, rows, empty=_NO_INCIDENTS)
    if page.items:
        print("All about one of them: lab incidents show INCIDENT")
    if page.next_cursor is not None:
        print(f"There are more incidents; continue with --cursor {plain(page.next_cursor)}.")


@app.command()
def show(incident_id: IncidentId, as_json: JsonOption = False) -> None:
    """Show an incident with its timeline, actions and approval requests."""
    with open_services() as services:
        found, events = services.incidents.get(incident_id), list(_timeline(services.incidents, incident_id))
        briefing = services.incidents.briefing(incident_id)
    if as_json:
        documents = [event.to_cloudevent() for event in events]
        print_json("incidents show", incident=found.model_dump(mode="json"), events=documents)
        return
    _print_incident(found)
    _print_briefing(briefing)
    print("Timeline:")
    for event in events:
        _print_event(event, names_incident=False)
    _print_next(found)


@app.command()
def watch(
    incident_id: Annotated[
        str | None,
        typer.Argument(help="The id of the incident to follow until it is over. Default: all incidents, until Ctrl-C."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the past events of an incident, or of all open incidents, then new events as they happen.

    With --json, each event is printed as a CloudEvent on one line.
    """
    from relab.cli.stopping import stoppable

    with open_services() as services, stoppable() as stop:
        service = services.incidents
        found = _of_one(service, incident_id, stop) if incident_id is not None else _of_all(service, stop)
        for event in found:
            if as_json:
                print(json.dumps(event.to_cloudevent()), flush=True)
            else:
                _print_event(event, names_incident=incident_id is None)


@app.command()
def approve(question: QuestionId, note: Note = "", by: By = "cli", as_json: JsonOption = False) -> None:
    """Approve the plan of an approval request.

    The responder executes it unless the watched service has changed since the request.
    """
    _print_decision("incidents approve", _decide(question, approved=True, note=note, by=by), as_json=as_json)


@app.command()
def reject(question: QuestionId, note: Note = "", by: By = "cli", as_json: JsonOption = False) -> None:
    """Reject the plan of an approval request. The responder does not execute it."""
    _print_decision("incidents reject", _decide(question, approved=False, note=note, by=by), as_json=as_json)


@app.command()
def dismiss(incident_id: IncidentId, why: Note = "", by: By = "cli", as_json: JsonOption = False) -> None:
    """Dismiss an incident as a false positive: it ends, and the present state of the service counts as normal."""
    with open_services() as services:
        found = services.incidents.dismiss(incident_id, by=by, why=why)
    if as_json:
        print_json("incidents dismiss", incident=found.model_dump(mode="json"))
    else:
        _print_incident(found)


@app.command()
def close(
    incident_id: IncidentId,
    note: Annotated[str, typer.Option(help="What was done, for the timeline.")],
    cause: Annotated[
        str | None, typer.Option(help="The name of the cause, if you know it, such as cache_down.")
    ] = None,
    if_status: Annotated[str | None, typer.Option(help="Close the incident only if it has this status.")] = None,
    by: By = "cli",
    as_json: JsonOption = False,
) -> None:
    """Close an incident as repaired: it ends, and the responder stops. If the problem lasts, a new incident opens."""
    from relab.incidents.service import IncidentStatus

    wanted = choice_of(IncidentStatus, "--if-status", "a status", if_status)
    with open_services() as services:
        found = services.incidents.close(incident_id, by=by, note=note, cause=cause, if_status=wanted)
    if as_json:
        print_json("incidents close", incident=found.model_dump(mode="json"))
    else:
        _print_incident(found)


@app.command()
def trigger(
    detail: Annotated[str, typer.Argument(help="The problem, in your words.")] = "",
    target: Annotated[
        str | None, typer.Option("--target", help="The name of the target. Default: the watched target.")
    ] = None,
    by: By = "cli",
    as_json: JsonOption = False,
) -> None:
    """Open an incident for a problem that you report; the responder starts to work on it at its next poll."""
    with open_services() as services:
        found = services.incidents.trigger(detail, by=by, target=target)
        if target is not None:
            _warn_of_unwatched(target, services.incidents.targets())
    if as_json:
        print_json("incidents trigger", **found.model_dump(mode="json"))
    else:
        print(f"{found.incident_id} is {'opened' if found.created else 'open already; your report was added'}.")


@app.command()
def pause(why: Note = "", target: TargetName = None, by: By = "cli", as_json: JsonOption = False) -> None:
    """Pause the responder: it executes no actions, but keeps polling and diagnosing."""
    with open_services() as services:
        state = services.incidents.pause(by=by, why=why, target=target)
        targets = services.incidents.targets()
    _print_switch("incidents pause", state, targets, as_json=as_json)


@app.command()
def resume(why: Note = "", target: TargetName = None, by: By = "cli", as_json: JsonOption = False) -> None:
    """Resume the responder after `lab incidents pause`, so that it executes actions again."""
    with open_services() as services:
        state = services.incidents.resume(by=by, why=why, target=target)
        targets = services.incidents.targets()
        others = services.incidents.log.switches.still_on(target)
    _print_switch("incidents resume", state, targets, others, as_json=as_json)


def _statuses(names: list[str]) -> list[IncidentStatus]:
    """Convert names to statuses of incidents.

    Raises:
        InvalidInputError: a name is not the name of a status.
    """
    from relab.incidents.service import IncidentStatus

    return [choice_of(IncidentStatus, "--status", "a status", name) for name in names]


def _timeline(service: IncidentService, incident_id: str, after: int = 0) -> Iterator[TimelineEvent]:
    """Yield all stored events of an incident with a number greater than `after`, in order."""
    # One read returns a limited number of events.
    while events := service.timeline(incident_id, after):
        yield from events
        after = events[-1].seq


def _of_one(service: IncidentService, incident_id: str, stop: Event) -> Iterator[TimelineEvent]:
    """Yield the timeline events of one incident, as they happen, until the incident is over or `stop` is set."""
    seen = 0
    while True:
        # Check first, so that the last events are read after the end.
        is_over = service.get(incident_id).is_over
        for event in _timeline(service, incident_id, seen):
            seen = event.seq
            yield event
        if is_over or stop.wait(POLL_S):
            return


def _of_all(service: IncidentService, stop: Event) -> Iterator[TimelineEvent]:
    """Yield the timeline events of all open incidents, as they happen, until `stop` is set.

    The past events of the incidents that are already open come first. Incidents that open later are included.
    """
    from relab.incidents.service import IncidentStatus

    open_ones = [status for status in IncidentStatus if not status.is_over]
    newest = service.log.list_incidents(limit=NEWEST).items
    closed_ids = {each.incident_id for each in newest if each.is_over}
    seen: dict[str, int] = {}
    while not stop.is_set():
        # Also read the newest incidents: one may open and end between two reads.
        page = service.log.list_incidents(limit=NEWEST).items
        listed = [*service.log.list_incidents(statuses=open_ones).items, *page]
        found = {each.incident_id: each.is_over for each in listed}
        # An incident that has ended is not among the newest ones if many others were opened after it.
        for incident_id in seen.keys() - closed_ids - found.keys():
            with suppress(NotFoundError):
                found[incident_id] = service.get(incident_id).is_over
        for incident_id, is_over in sorted(found.items()):
            if incident_id in closed_ids:
                continue
            for event in _timeline(service, incident_id, seen.get(incident_id, 0)):
                seen[incident_id] = event.seq
                yield event
            if is_over:
                closed_ids.add(incident_id)
        stop.wait(POLL_S)


def _decide(question: str, *, approved: bool, note: str, by: str) -> Decision:

    with open_services() as services:
        return services.incidents.decide(question, approved=approved, by=by, note=note)


def _print_decision(command: str, decision: Decision, *, as_json: bool) -> None:
    if as_json:
        print_json(command, decision=decision.model_dump(mode="json"))
    else:
        verb = "approved" if decision.approved else "rejected"
        print(f"{plain(decision.approval_id)} is {verb} by {plain(decision.by)}.")


def _print_switch(
    command: str, state: SwitchState, targets: Sequence[str], others: Sequence[SwitchState] = (), *, as_json: bool
) -> None:
    """Print the new state of a kill switch, and a warning for each other switch in `others`, which is still on."""
    if state.target != "*":
        _warn_of_unwatched(state.target, targets)
    if as_json:
        print_json(command, **state.model_dump(mode="json"))
    elif state.is_paused:
        print(f"The responder of {_paused(state)} is paused: it executes no actions. {_to_resume(state)}")
    elif others:
        print(f"The pause of {_paused(state)} has ended.")
    else:
        print(f"The responder of {_paused(state)} is resumed.")
    for each in others:
        why = f" ({plain(each.why)})" if each.why else ""
        said = f"The responder of {_paused(each)} is still paused by {plain(each.by or 'an unknown person')}{why}."
        print(f"lab: warning: {said} {_to_resume(each)}", file=sys.stderr)


def _paused(state: SwitchState) -> str:
    return "all targets" if state.target == "*" else plain(state.target)


def _to_resume(state: SwitchState) -> str:
    return f"To resume it: lab incidents resume{'' if state.target == '*' else f' --target {argument(state.target)}'}."


def _warn_of_unwatched(target: str, watched: Sequence[str]) -> None:
    """Print a warning if `target` is not in `watched`, the names of all targets that a responder has ever watched."""
    if target in watched:
        return
    known = plain(", ".join(watched)) or "none"
    message = f"No responder has watched a target named {plain(target)}. Targets that were watched: {known}."
    print(f"lab: warning: {message}", file=sys.stderr)


def _print_incident(found: IncidentDetails) -> None:
    from relab.core.clock import format_time

    print(f"Incident {found.incident_id} of {plain(found.target)}: {plain(found.title)}")
    print(f"Status: {found.status.value}; severity: {found.severity.value}; phase: {found.phase.value}")
    ended = "" if found.closed_at is None else f"; ended: {format_time(found.closed_at)}"
    print(f"Opened: {format_time(found.opened_at)}{ended}")
    if found.diagnosis is not None:
        print(f"Diagnosis: {plain(found.diagnosis)} (probability {found.probability or 0.0:.2f})")
    if found.recommendation:
        print(plain(found.recommendation))
    if found.actions:
        rows = ((act.action, act.target, act.status.value, act.effect and act.effect.value) for act in found.actions)
        print_table("Actions", ("action", "part of the service", "status", "result"), rows)
    for question in found.questions:
        if (answer := question.decision) is not None:
            verb = "approved" if answer.approved else "rejected"
            name = f"{plain(question.request.approval_id)}, {plain(question.request.plan.action)}"
            print(f"Approval request {name}: {verb} by {plain(answer.by)}")


def _print_briefing(found: Briefing) -> None:
    # Each request repeats the evidence of its diagnosis.
    if not found.questions:
        _print_pairs("", found.details)
    for request, details in found.questions:
        print(
            f"Approval request {plain(request.approval_id)}, {plain(request.plan.action)} on {plain(request.plan.target)}:"
        )
        _print_pairs("  ", details)
        print(f"  To answer: lab incidents approve|reject {plain(request.approval_id)}")


def _print_pairs(indent: str, pairs: Iterable[tuple[str, str]]) -> None:
    for name, text in pairs:
        print(f"{indent}{name}: {plain(text)}")


def _print_next(found: IncidentDetails) -> None:
    """Print what a person can do next about an incident."""
    from relab.incidents.service import IncidentStatus

    incident_id = plain(found.incident_id)
    waiting = [each.request.approval_id for each in found.questions if each.decision is None]
    asked = plain(waiting[-1] if waiting else incident_id)
    steps = {
        IncidentStatus.OPEN: f"lab incidents watch {incident_id}",
        IncidentStatus.WAITING_APPROVAL: f"lab incidents approve {asked}, or lab incidents reject {asked}",
        IncidentStatus.ESCALATED: (
            "repair the service if it is not repaired yet; the incident ends once users are served well. "
            f"To end it now: lab incidents close {incident_id} --note WHAT_WAS_DONE. "
            f"If it is a false positive: lab incidents dismiss {incident_id} --why REASON"
        ),
    }
    print(f"Next: {steps.get(found.status, f'lab incidents postmortem {incident_id}')}")
    print(f"All steps of the responder: lab agent-runs timeline {plain(found.agent_run_id)}")


def _print_event(event: TimelineEvent, *, names_incident: bool = True) -> None:
    from relab.core.clock import format_time
    from relab.incidents.service import label_of

    name = f"{event.incident_id} " if names_incident else ""
    print(f"{format_time(event.at)} {name}{plain(label_of(event.kind))}: {plain(event.message)}", flush=True)
