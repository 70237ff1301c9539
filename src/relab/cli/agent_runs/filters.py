"""The options with which commands select agent runs. Each is a field of `RunFilterOptions`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from relab.cli.retention import parse_age_us
from relab.core.errors import InvalidInputError

if TYPE_CHECKING:
    from relab.telemetry.models import RunFilter


@dataclass(frozen=True, kw_only=True)
class RunFilterOptions:
    """The values of the options that select agent runs; a run must match all options that are given."""

    agent: Annotated[str | None, typer.Option(help="Agent name.")] = None
    version: Annotated[str | None, typer.Option(help="Agent version.")] = None
    status: Annotated[
        Literal["success", "failure", "running", "cancelled", "incomplete"] | None,
        typer.Option(help="Status of the run."),
    ] = None
    outcome: Annotated[
        Literal["succeeded", "completed_with_errors", "failed", "unknown"] | None,
        typer.Option(help="Outcome of the run, which its status may not show."),
    ] = None
    environment: Annotated[str | None, typer.Option(help="Environment, such as production.")] = None
    category: Annotated[str | None, typer.Option(help="Failure category that the analysis found.")] = None
    task: Annotated[str | None, typer.Option(help="Task id.")] = None
    behaviour: Annotated[str | None, typer.Option(help="Behaviour that a rule found (lab rca rules).")] = None
    conversation: Annotated[str | None, typer.Option(help="Conversation or session id.")] = None
    since: Annotated[
        str | None, typer.Option(help="Started at or after a time (2024-01-15T10:30:00Z) or an age (7d).")
    ] = None
    until: Annotated[str | None, typer.Option(help="Started before a time or an age.")] = None
    text: Annotated[str | None, typer.Option(help="Text in ids, names and error messages.")] = None

    all_traces: Annotated[
        bool, typer.Option("--all-traces", help="Also traces without an agent, workflow, model call or tool call.")
    ] = False

    def read(self, now_us: int) -> RunFilter:
        """Return the filter that the options describe; an age such as 24h is counted back from `now_us`.

        Args:
            now_us: the current time, in microseconds since 1970.

        Raises:
            InvalidInputError: `since` or `until` is neither a time nor an age.
        """
        from relab.telemetry.models import RunFilter, RunStatus
        from relab.telemetry.outcome_models import RunOutcome

        return RunFilter(
            agent_name=self.agent,
            agent_version=self.version,
            status=RunStatus(self.status) if self.status else None,
            outcome=RunOutcome(self.outcome) if self.outcome else None,
            environment=self.environment,
            category=self.category,
            task_id=self.task,
            conversation_id=self.conversation,
            behaviour=self.behaviour,
            started_after_us=moment_us("--since", self.since, now_us),
            started_before_us=moment_us("--until", self.until, now_us),
            text=self.text,
            all_traces=self.all_traces or None,
        )


def takes_run_filter(command: Callable[..., None]) -> Callable[..., None]:
    """A decorator that replaces the parameter `options` of a command by one option per field of `RunFilterOptions`."""
    own = inspect.signature(command, eval_str=True)
    fields = inspect.signature(RunFilterOptions, eval_str=True).parameters

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = {field.name: arguments.pop(field.name) for field in dataclasses.fields(RunFilterOptions)}
        command(options=RunFilterOptions(**given), **arguments)

    parameters = [each.replace(kind=each.KEYWORD_ONLY) for each in own.parameters.values() if each.name != "options"]
    signature = own.replace(parameters=[*parameters, *fields.values()])
    run.__signature__ = signature  # type: ignore[attr-defined]  # Typer reads it
    run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    del run.__wrapped__  # else Typer would read the annotations of `command`
    return run


def moment_us(option: str, text: str | None, now_us: int) -> int | None:
    """Parse the value `text` of a time option; return the time in microseconds since 1970, or None if `text` is None.

    The value is a time, such as 2024-01-15T10:30:00Z, or an age, such as 24h, which is subtracted from `now_us`.

    Raises:
        InvalidInputError: the text is neither a time nor an age; the message names the option.
    """
    from relab.core.clock import parse_time

    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        try:
            return max(now_us - parse_age_us(option, text), 0)
        except InvalidInputError:
            raise InvalidInputError(
                f"{option}: {error}.", remedy="Write such a time, or an age: 12h, 30d, 8w."
            ) from error
