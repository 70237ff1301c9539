"""`lab auth`: create, list and revoke tokens.

Before the first token is created, requests from this machine need no token. Afterwards every request needs one, until
`lab auth reopen` accepts requests from this machine without a token again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from relab.cli.confirming import confirm
from relab.cli.context import open_services, operator
from relab.cli.output import JsonOption, print_json, print_table

if TYPE_CHECKING:
    from relab.access.models import AccessState

app = typer.Typer(help="Create, list and revoke access tokens.", no_args_is_help=True)


@app.command("create-token")
def create_token(
    name: Annotated[str, typer.Option(help="The owner of the token.")],
    scope: Annotated[
        list[str], typer.Option(help="The scope: ingest, read, operate or admin. Repeat the option for several.")
    ],
    expires_in_days: Annotated[
        float | None,
        typer.Option(min=0.001, max=36_500, help="Days until the token expires. Default: it does not expire."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a token and print it once. Only its hash is stored."""
    from relab.access.models import Scope

    unknown = [item for item in scope if item not in set(Scope)]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is not a scope ({', '.join(Scope)})", param_hint="--scope")
    with open_services() as services:
        was_open = services.access.is_open()
        expires_at = None
        if expires_in_days is not None:
            expires_at = services.clock.now_us() + int(expires_in_days * 86_400_000_000)
        made = services.access.create_token(name, [Scope(item) for item in scope], expires_at=expires_at, by=operator())
    if as_json:
        print_json("auth create-token", token=made.token, **made.info.model_dump(mode="json"))
        return
    print(made.token)
    typer.echo("Keep the token safe: it is shown only once. Send it as `Authorization: Bearer <token>`.", err=True)
    if was_open:
        typer.echo("From now on, every request needs a token, also from this machine.", err=True)


@app.command("list")
def list_tokens(as_json: JsonOption = False) -> None:
    """List the tokens without their secrets, and show whether requests need a token."""
    from relab.core.clock import format_time

    with open_services() as services:
        tokens = services.access.list_tokens()
        state = services.access.state()
    if as_json:
        print_json("auth list", items=[token.model_dump(mode="json") for token in tokens], open=state.is_open)
        return
    rows = (
        (
            token.token_id,
            token.name,
            ", ".join(token.scopes),
            format_time(token.created_at),
            token.expires_at and format_time(token.expires_at),
            token.revoked_at and format_time(token.revoked_at),
        )
        for token in tokens
    )
    print_table("Tokens", ("id", "name", "scopes", "created", "expires", "revoked"), rows)
    print(_describe(state))


@app.command()
def status(as_json: JsonOption = False) -> None:
    """Show whether requests need a token, since when, and how many tokens are valid."""
    with open_services() as services:
        state = services.access.state()
    if as_json:
        fields = state.model_dump(mode="json")
        print_json("auth status", open=fields.pop("is_open"), **fields)
        return
    print(_describe(state))


@app.command()
def revoke(token_id: Annotated[str, typer.Argument(help="The id of the token, from `lab auth list`.")]) -> None:
    """Revoke a token at once. If no valid token is left, every request is rejected.

    An event stream that a client has opened with the token goes on until it ends or the server restarts.
    """
    with open_services() as services:
        services.access.revoke_token(token_id, by=operator())
        state = services.access.state()
    print(f"Revoked {token_id}.")
    if not state.is_open and not state.valid_tokens:
        typer.echo(_describe(state), err=True)


@app.command()
def reopen(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Accept requests from this machine without a token again, as before the first token was created.

    Revoke all valid tokens before you use this command. When the next token is created, every request needs a token
    again.
    """
    with open_services() as services:
        if not yes:
            confirm("Let every program and user of this machine do everything without a token?")
        services.access.reopen(by=operator())
        state = services.access.state()
    if as_json:
        print_json("auth reopen", open=state.is_open)
        return
    print(_describe(state))


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The number of events.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List who created or revoked tokens, or let requests in without a token (`lab auth reopen`), newest first."""
    from relab.core.clock import format_time

    with open_services() as services:
        events = services.access.list_events(limit=limit)
    if as_json:
        print_json("auth history", items=[event.model_dump(mode="json") for event in events])
        return
    rows = ((format_time(event.at), event.kind, event.token_id, event.actor) for event in events)
    print_table("Changes of access", ("time", "change", "token", "by"), rows, empty="Access was never changed.")


def _describe(state: AccessState) -> str:
    """Return a text that says whether requests to this installation need a token, and since when."""
    from relab.core.clock import format_time

    if state.is_open:
        since = f" since {format_time(state.changed_at)}" if state.changed_at is not None else ""
        return f"Open{since}: this machine may do everything without a token; other machines may do nothing."
    since = f" since {format_time(state.changed_at)}" if state.changed_at is not None else ""
    if state.valid_tokens:
        return f"Closed{since}: every request needs a token. Valid tokens: {state.valid_tokens}."
    return (
        f"Closed{since}, and no token is valid: every request is rejected, also from this machine. "
        "`lab auth create-token` creates a token; `lab auth reopen` accepts requests from this machine without one."
    )
