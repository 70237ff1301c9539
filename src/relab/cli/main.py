"""The `lab` command: its groups, its global options and its exit codes.

Exit codes: 0 ok or PASS · 1 FAIL or failed work · 2 EDGE or INVALID · 64 usage ·
69 a dependency is unavailable · 70 internal error · 130 interrupted.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from relab import __version__
from relab.cli import (
    agent_runs,
    auth,
    clean,
    compare,
    db,
    doctor,
    experiments,
    flags,
    incidents,
    jobs,
    knobs,
    knowledge,
    load,
    metrics,
    rca,
    schemas,
    serve,
    testbed,
    worker,
)

EXIT_USAGE = 64
EXIT_INTERRUPTED = 130
ALIKE = 0.65
"""The minimum similarity (of `difflib`) between a mistyped command and a suggestion."""


class LabGroup(TyperGroup):
    """A group of commands. For a mistyped command, it suggests only a very similar one: not `worker` for `fork`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the name of the command, the command, and the remaining arguments."""
        self.suggest_commands = False
        try:
            return super().resolve_command(ctx, args)
        except TyperException as error:
            near = get_close_matches(args[0], self.commands, n=1, cutoff=ALIKE) if args else []
            if near:
                error.message = f"{error.message} Did you mean {near[0]!r}?"
            raise


app = typer.Typer(
    name="lab",
    cls=LabGroup,
    help="relab: the reliability lab for AI agents and the services they keep alive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("rca")(rca.analyze)
app.command("metrics")(metrics.overview)
app.command("doctor")(doctor.doctor)
for _name, _command in (
    ("init", experiments.init),
    ("describe", experiments.describe),
    ("run", experiments.run),
    ("run-dev", experiments.run_dev),
    ("run-experiment", experiments.run_experiment),
    ("clean", clean.clean),
    ("compare", compare.compare),
    ("knobs-init", knobs.knobs_init),
    ("knobs-validate", knobs.knobs_validate),
    ("load", load.load_command),
    ("schema-validate", schemas.schema_validate),
):
    app.command(_name)(_command)
for _name, _group in (
    ("agent-runs", agent_runs.app),
    ("experiments", experiments.app),
    ("flags", flags.app),
    ("incidents", incidents.app),
    ("knowledge", knowledge.app),
    ("jobs", jobs.app),
    ("db", db.app),
    ("auth", auth.app),
    ("testbed", testbed.app),
):
    app.add_typer(_group, name=_name, cls=LabGroup)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"relab {__version__}")
        raise typer.Exit


@app.callback()
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


def main() -> None:
    """Run the `lab` command, and exit with its exit code."""
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        if "--json" in sys.argv:
            from relab.cli.output import print_json_error

            print_json_error("usage", error.format_message())
        else:
            # Without arguments, the message is the help text.
            print(error.format_message(), file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        if "--json" in sys.argv:
            from relab.cli.output import print_json_error

            print_json_error("interrupted", "The command was interrupted.")
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 the outermost frame: every error becomes a message and a code
        from relab.cli.output import report_error

        sys.exit(report_error(error))
    sys.exit(code if isinstance(code, int) else 0)
