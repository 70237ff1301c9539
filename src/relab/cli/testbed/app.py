"""`lab testbed`: start, inspect, reset and stop a testbed, a small real service into which faults can be injected."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relab.cli.context import read_settings
from relab.cli.output import JsonOption, plain, print_json, print_table
from relab.cli.testbed import scenarios as testbed_scenarios
from relab.cli.testbed.start import start_testbed

if TYPE_CHECKING:
    from relab.testbed.models import TestbedStatus

app = typer.Typer(
    help="A small real service for fault injection and repair: up, status, reset, token, down.", no_args_is_help=True
)

app.command("run")(testbed_scenarios.run)
app.command("scenarios")(testbed_scenarios.list_scenarios)

DEFAULT_NAME = "default"
NameOption = Annotated[str, typer.Option("--name", help="Name of the testbed; several can run side by side.")]
PortBaseOption = Annotated[
    int | None,
    typer.Option(
        "--port-base", help="First of three ports for target, chaos and action server (default: 8011, 8080, 9000)."
    ),
]


@app.command()
def up(
    name: NameOption = DEFAULT_NAME,
    port_base: PortBaseOption = None,
    within_s: Annotated[
        float | None,
        typer.Option(
            "--within",
            min=1,
            max=600,
            show_default="30",
            help="Seconds until all components must be ready, also after a reset.",
        ),
    ] = None,
    open_actions: Annotated[
        bool, typer.Option("--open-actions", help="Programs on this machine may perform actions without a token.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Start a testbed, and return when all components are ready.

    The testbed then runs until `lab testbed down`. Ctrl-C or SIGTERM before it is ready stops it again.
    """
    settings = read_settings()
    token = settings.testbed_token
    target: dict[str, Any] = {"token": token.get_secret_value()} if token is not None else {}
    if settings.qdrant_url is not None:
        target["search"] = {"qdrant_url": settings.qdrant_url}
    limits: dict[str, Any] = {} if within_s is None else {"start_within_s": within_s}
    began = time.monotonic()
    status = start_testbed(settings.home, name, port_base=port_base, open_actions=open_actions, target=target, **limits)
    if open_actions:
        typer.secho(
            f"WARNING: every program of every user on this machine may perform actions on {name} without a token.",
            fg="red",
            err=True,
        )
    _show("testbed up", status, time.monotonic() - began, json)


@app.command("status")
def show_status(name: NameOption = DEFAULT_NAME, json: JsonOption = False) -> None:
    """Show the components and the addresses of a testbed."""
    from relab.testbed import service

    _show("testbed status", service.status(read_settings().home, name, hidden=True), None, json)


@app.command()
def reset(name: NameOption = DEFAULT_NAME, json: JsonOption = False) -> None:
    """Restore the initial state of a testbed: its data, and a service without faults.

    The service stops for some seconds. A responder that watches it opens an incident; to prevent this, stop the
    responder (`lab serve`) before the reset.
    """
    from relab.testbed import service

    began = time.monotonic()
    status = service.reset(read_settings().home, name)
    _show("testbed reset", status, time.monotonic() - began, json)


@app.command()
def token(
    label: Annotated[
        str, typer.Option("--label", help="Owner of the token, shown as the actor in records of actions.")
    ] = "operator",
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="read, act, act:CLASS or admin; may be repeated.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Make an older token with this label invalid.")] = False,
    name: NameOption = DEFAULT_NAME,
    json: JsonOption = False,
) -> None:
    """Create a token for a testbed's action server, and print it once.

    If a token with this label exists, nothing is created, except with --replace.
    """
    from relab.testbed import service

    scopes = scope or ["read", "act"]
    made = service.make_token(read_settings().home, name, label, scopes, replace=replace)
    if json:
        print_json("testbed token", name=name, label=label, scopes=scopes, token=made)
    else:
        print(made)


@app.command()
def down(name: NameOption = DEFAULT_NAME, json: JsonOption = False) -> None:
    """Stop a testbed, and return when none of its processes is left."""
    from relab.testbed import service

    began = time.monotonic()
    service.down(read_settings().home, name)
    took_s = round(time.monotonic() - began, 3)
    if json:
        print_json("testbed down", name=name, took_s=took_s)
    else:
        print(f"The testbed {plain(name)} is stopped ({took_s:.1f} s).")


def _show(command: str, status: TestbedStatus, took_s: float | None, as_json: bool) -> None:
    if as_json:
        took = {} if took_s is None else {"took_s": round(took_s, 3)}
        print_json(command, **status.model_dump(mode="json"), **took)
        return
    state = status.state
    rows = ((item.name, item.group, item.state, item.pid, item.port, item.restarts) for item in status.components)
    print_table(
        f"Testbed {state.name}: {state.phase}", ("component", "group", "state", "pid", "port", "restarts"), rows
    )
    for part, address in state.addresses.model_dump().items():
        if address is not None:
            print(f"{part}: {plain(address)}")
    if took_s is not None:
        print(
            f"Done in {took_s:.1f} s. Now simulate users, because a repair can only be verified by their requests: lab load TARGET --mix order"
        )
