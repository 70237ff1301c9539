"""The `lab` command: its groups, its global options and its exit codes.

Exit codes: 0 success · 1 failed work · 64 usage error · 69 a dependency is unavailable · 70 internal error ·
75 a run reached a limit of its budget · 130 interrupted · 141 the reader of the output closed its pipe.
Verdicts, such as that of `lab compare`: 0 PASS · 1 FAIL · 2 EDGE or INVALID (no decision is possible).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from relab import __version__
from relab.cli.output import (
    EXIT_CLOSED_PIPE,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    print_error,
    report_error,
)
from relab.cli.streams import discard_stdout, is_stdout_closed, replace_missing_streams
from relab.core.garbage import collect_seldom, skip_collections_at_exit

ALIKE = 0.65
"""The minimum similarity (of `difflib`) between a mistyped command and a suggestion."""


class ClosedPipeError(Exception):
    """A command wrote to a pipe whose reader had closed it.

    It is raised from the BrokenPipeError. Typer would handle a BrokenPipeError itself, and end the process with exit
    code 1, as for a failed command.
    """


class LabGroup(TyperGroup):
    """A group of commands.

    The error message about an unknown command suggests a command only if the two names are very similar (`ALIKE`).
    """

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Parse the arguments and return their context. The options `--help` and `--version` print a text here.

        Raises:
            ClosedPipeError: this text was written to a pipe whose reader had closed it.
        """
        try:
            return super().make_context(*args, **options)
        except BrokenPipeError as error:
            raise ClosedPipeError from error

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name, and return its result.

        Raises:
            ClosedPipeError: the command wrote to a pipe whose reader had closed it.
            typer.Abort: the command was interrupted.
        """
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ClosedPipeError from error
        except KeyboardInterrupt as error:
            # Typer would return an exit code, and `main` could not print the error.
            raise typer.Abort from error

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the name and the object of the command that the first of `args` names, and the remaining arguments."""
        from difflib import get_close_matches

        self.suggest_commands = False
        try:
            return super().resolve_command(ctx, args)
        except TyperException as error:
            near = get_close_matches(args[0], self.commands, n=1, cutoff=ALIKE) if args else []
            if near:
                error.message = f"{error.message} Did you mean {near[0]!r}?"
            raise


class DefaultGroup(LabGroup):
    """A group of commands with a default command, `run`.

    If the first word after the group is not a command of the group, all words are arguments of `run`.
    """

    default_command: Final = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the group, and return those that are left for its command.

        If the first of `args` is neither a command of the group nor `--help`, all of `args` become arguments of the
        default command `run`.
        """
        if args and args[0] not in {*self.commands, "--help"}:
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)


COMMANDS: Final[Mapping[str, str]] = {
    "serve": "serve:serve",
    "worker": "worker:worker",
    "rca": "rca.app:app",
    "metrics": "metrics:overview",
    "prices": "prices:app",
    "doctor": "doctor:doctor",
    "init": "experiments.app:init",
    "describe": "experiments.app:describe",
    "run": "experiments.app:run",
    "run-dev": "experiments.app:run_dev",
    "run-experiment": "experiments.app:run_experiment",
    "pause": "experiments.pausing:pause",
    "resume": "experiments.pausing:resume",
    "replay": "experiments.replaying:replay",
    "rescore": "experiments.rescoring:rescore",
    "verify": "experiments.proof:verify",
    "publish": "experiments.bundles:publish",
    "open": "experiments.bundles:open_command",
    "keys": "experiments.proof:keys",
    "fork": "experiments.forking:fork",
    "trials": "experiments.trials:trials",
    "trial": "experiments.trials:app",
    "cache": "experiments.result_cache:app",
    "inspect": "experiments.inspect_logs:app",
    "clean": "experiments.clean:clean",
    "compare": "experiments.compare:compare",
    "knobs-init": "experiments.knobs:knobs_init",
    "knobs-validate": "experiments.knobs:knobs_validate",
    "load": "load:load_command",
    "schema-validate": "experiments.schemas:schema_validate",
    "hooks-validate": "experiments.schemas:hooks_validate",
    "agent-runs": "agent_runs.app:app",
    "experiments": "experiments.app:app",
    "flags": "flags:app",
    "rollout": "rollouts.app:app",
    "builds": "builds.app:app",
    "incidents": "incidents.app:app",
    "knowledge": "knowledge.app:app",
    "jobs": "jobs:app",
    "db": "db:app",
    "auth": "auth:app",
    "testbed": "testbed.app:app",
}
"""The commands and groups of commands in the order of the help: the name, and its module and object in `relab.cli`."""

WITH_DEFAULT: Final = frozenset({"rca"})
"""The groups whose command `run` may be left out: `lab rca RUN` is `lab rca run RUN`."""


def build_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Return the application `lab` with the commands `names`, which are keys of `COMMANDS`.

    Only the modules of these commands are imported.
    """
    app = typer.Typer(
        name="lab",
        cls=LabGroup,
        help="relab: the reliability lab for AI agents and the services they keep alive.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(f"relab.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, cls=DefaultGroup if name in WITH_DEFAULT else LabGroup)
        else:
            app.command(name)(command)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"relab {__version__}")
        raise typer.Exit


def _options(
    home: Annotated[
        Path | None,
        typer.Option(help="The folder of relab's data and settings.", envvar="RELAB_HOME", show_envvar=True),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    from relab.cli.context import use_home

    use_home(home)


def _usage_message(error: TyperException) -> str:
    """Return the message of a usage error, without the prefix that Pydantic adds if an option has an invalid value."""
    from relab.core.validation import VALUE_ERROR_PREFIX

    return error.format_message().replace(f": {VALUE_ERROR_PREFIX}", ": ", 1)


def main() -> None:
    """Run `lab` as the program of this process and exit with its code."""
    collect_seldom()
    skip_collections_at_exit()
    replace_missing_streams()
    run()


def _flush_stdout() -> None:
    """Flush the buffered output of a finished command.

    If the reader of the output has closed the pipe, the output is discarded, and the command keeps its exit code.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()


def run() -> None:
    """Run the command line in `sys.argv`.

    If the reader of the output has closed its pipe (`lab … | head`), the command ends without a message. The exit code
    is the command's own if the command was finished. Otherwise it is 141, as after the signal SIGPIPE.

    Raises:
        SystemExit: the command has ended, with its exit code.
    """
    # One command needs a fifth of the time and memory of all of them.
    first = sys.argv[1:2]
    try:
        code = build_app(first if first and first[0] in COMMANDS else COMMANDS)(standalone_mode=False)
        _flush_stdout()
    except ClosedPipeError as error:
        if not is_stdout_closed():
            sys.exit(report_error(error))
        discard_stdout()
        sys.exit(EXIT_CLOSED_PIPE)
    except TyperException as error:
        if "--json" in sys.argv:
            print_error("usage", _usage_message(error))
        else:
            # Without arguments, the message is the help text.
            print(_usage_message(error), file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        if "--json" in sys.argv:
            print_error("interrupted", "The command was interrupted.")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 the outermost frame: every error becomes a message and a code
        sys.exit(report_error(error))
    sys.exit(code if isinstance(code, int) else 0)
