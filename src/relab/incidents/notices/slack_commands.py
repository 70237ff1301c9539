"""Parse and carry out commands that people type in Slack, such as `/relab approve ID`, and compose the replies."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from relab.core.errors import ForbiddenError, InvalidInputError, MalformedBodyError, RelabError, UnavailableError
from relab.core.logging import get_logger
from relab.incidents.notices.message_text import escaped, for_slack, length, one_line
from relab.incidents.service import IncidentService

_MAX_FIELDS: Final = 100
_MAX_LISTED: Final = 10
_MAX_ANSWER: Final = 2_900
_MAX_WORD: Final = 200
_MAX_NOTE: Final = 1_000
_HELP: Final = (
    "`/relab status`: the status of the responder",
    "`/relab incidents`: the newest incidents",
    "`/relab approve ID [note]`: approve a plan; ID is the id of the request, or of the incident if it has only one request",
    "`/relab reject ID [note]`: reject a plan; a person takes over",
    "`/relab pause [why]`: execute no more actions; polling continues",
    "`/relab resume [why]`: end the pause",
)

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SlackCommand:
    """A command that a person typed in Slack.

    Attributes:
        user_id: Slack's id of the person.
        user_name: the person's name, which may be empty.
        text: the text after the name of the command.
        is_check: whether the request is not a command of a person, but Slack's check that the server answers
            (`ssl_check`).
    """

    user_id: str
    user_name: str
    text: str
    is_check: bool = False

    @property
    def author(self) -> str:
        """The person's name as timelines show it: `slack:<name>/<id>`."""
        return f"slack:{self.user_name or 'unknown'}/{self.user_id}"


def read_command(body: bytes) -> SlackCommand:
    """Return the command in the body of a Slack request, which is a URL-encoded form.

    Raises:
        MalformedBodyError: the body is not a form in UTF-8.
        InvalidInputError: the user id is missing or not valid.
    """
    try:
        fields = parse_qs(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_FIELDS,
        )
    except ValueError as error:
        raise MalformedBodyError("The body is not a form as Slack sends it.") from error
    given = {name: one_line(values[-1], 4_000) for name, values in fields.items()}
    if "ssl_check" in given:
        return SlackCommand("", "", "", is_check=True)
    user_id = given.get("user_id", "")
    if not user_id or len(user_id) > 64 or not user_id.isascii() or not user_id.isalnum():
        raise InvalidInputError(
            "user_id is missing, or is not a Slack user id.", problems=(("user_id", "is not a Slack user id"),)
        )
    # Slack escapes the text that people type.
    return SlackCommand(user_id, one_line(given.get("user_name", ""), 80), html.unescape(given.get("text", "")))


class SlackCommandHandler:
    """Carries out commands that people type in Slack.

    Args:
        incidents: the service that carries out the commands.
        operators: ids of the users who may change something; all others may only read.
    """

    def __init__(self, incidents: IncidentService, operators: frozenset[str]) -> None:
        self._incidents = incidents
        self._operators = operators
        self._queries: dict[str, Callable[[], list[str]]] = {
            "": lambda: list(_HELP),
            "help": lambda: list(_HELP),
            "status": self._status,
            "incidents": self._list,
        }
        self._changes: dict[str, Callable[[SlackCommand, str], str]] = {
            "approve": lambda command, rest: self._decide(command, rest, approved=True),
            "reject": lambda command, rest: self._decide(command, rest, approved=False),
            "pause": lambda command, rest: self._switch(command, rest, pauses=True),
            "resume": lambda command, rest: self._switch(command, rest, pauses=False),
        }

    def answer(self, command: SlackCommand) -> str:
        """Carry out a person's Slack command and return the reply.

        If the command is unknown, invalid or refused, the reply says why. If the database or another service that it
        needs is unavailable, the reply refers to relab's log, which has the reason.
        """
        verb, _, rest = command.text.strip().partition(" ")
        verb = verb.lower()
        try:
            if verb in self._queries:
                lines = self._queries[verb]()
            elif verb in self._changes:
                lines = [self._changes[verb](command, rest.strip())]
            else:
                lines = [f"There is no command {for_slack(verb, 40)}.", *_HELP]
        except UnavailableError as error:
            _log.error("slack_command_failed", command=verb, error=str(error))
            lines = ["relab cannot answer right now; its log says why."]
        except RelabError as error:
            lines = [for_slack(str(error), 1_000)]
        return _bounded(lines)

    def _status(self) -> list[str]:
        found = self._incidents.status()
        if found.target is None:
            return ["This process watches no target.", *self._list()]
        state = f"paused by {for_slack(found.paused_by or 'an unknown person', 100)}" if found.paused else "not paused"
        lines = [f"{for_slack(found.target, 200)} is watched; autonomy {found.autonomy.value}, {state}."]
        current = found.incident
        if current is None:
            return [*lines, "No incident is open."]
        lines.append(
            f"*{for_slack(current.title, 300)}* ({current.severity.value}, {current.status.value}, at {escaped(current.phase, 40)})"
        )
        lines.append(f"incident `{current.id}`")
        if current.diagnosis:
            best = current.diagnosis[0]
            lines.append(f"Probable cause: {for_slack(best.cause, 100)} (probability {best.probability:.2f})")
        lines += [f"Waiting for approval: `/relab approve {escaped(each, 200)}`" for each in found.approvals]
        return lines

    def _list(self) -> list[str]:
        items = self._incidents.log.list_incidents(limit=_MAX_LISTED).items
        if not items:
            return ["There are no incidents."]
        return [
            f"`{each.incident_id}` {each.status.value} · {each.severity.value} · {for_slack(each.target, 80)} · "
            f"{for_slack(each.title, 120)}"
            for each in items
        ]

    def _decide(self, command: SlackCommand, rest: str, *, approved: bool) -> str:
        self._require_operator(command)
        wanted, _, note = rest.partition(" ")
        if not wanted or len(wanted) > _MAX_WORD:
            raise InvalidInputError("The id is missing.", remedy="The notice and `/relab status` show it.")
        decision = self._incidents.decide(wanted, approved=approved, by=command.author, note=one_line(note, _MAX_NOTE))
        request, _ = self._incidents.log.approvals.get(decision.approval_id)
        what = for_slack(f"{request.plan.action} on {request.plan.target}", 200)
        said = f"{what}, {'approved' if decision.approved else 'rejected'} by {for_slack(decision.by, 200)}"
        return f"{said}: `{escaped(decision.approval_id, 200)}`"

    def _switch(self, command: SlackCommand, rest: str, *, pauses: bool) -> str:
        self._require_operator(command)
        turn = self._incidents.pause if pauses else self._incidents.resume
        state = turn(by=command.author, why=one_line(rest, _MAX_NOTE))
        if state.is_paused:
            return "Paused: no more actions are executed; polling continues."
        others = [for_slack(each.target, 100) for each in self._incidents.log.switches.still_on(None)]
        still = (
            f" Still paused by name: {', '.join(others)}. `lab incidents resume --target` ends that." if others else ""
        )
        return f"Resumed.{still}"

    def _require_operator(self, command: SlackCommand) -> None:
        if command.user_id not in self._operators:
            _log.warning("slack_command_refused", user_id=command.user_id)
            raise ForbiddenError(
                f"The user {command.user_id} may read, but not change anything.",
                remedy="An operator of relab can add the id to RELAB_NOTICES__SLACK_OPERATORS.",
            )


def _bounded(lines: list[str]) -> str:
    kept: list[str] = []
    room = _MAX_ANSWER
    for line in lines:
        room -= length(line) + 1
        if room < 0:
            return "\n".join([*kept, "…"])
        kept.append(line)
    return "\n".join(kept)
