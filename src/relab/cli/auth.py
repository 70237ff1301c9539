"""`lab auth`: tokens. The first one closes the installation to everybody without."""

from __future__ import annotations

from typing import Annotated

import typer

from relab.cli.output import JsonOption, print_json, print_table

app = typer.Typer(help="Make, list and revoke access tokens.", no_args_is_help=True)


@app.command("create-token")
def create_token(
    name: Annotated[str, typer.Option(help="Whose token it is.")],
    scope: Annotated[
        list[str], typer.Option(help="What it allows: ingest, read, operate or admin; repeat for several.")
    ],
    expires_in_days: Annotated[
        float | None, typer.Option(min=0.001, max=36_500, help="Default: it does not expire.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it once; only a hash of it is stored."""
    from relab.access.models import Scope
    from relab.cli.context import open_services

    unknown = [item for item in scope if item not in set(Scope)]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(Scope)}", param_hint="--scope")
    with open_services() as services:
        first = services.access.is_open()
        expires_at = None
        if expires_in_days is not None:
            expires_at = services.clock.now_us() + int(expires_in_days * 86_400_000_000)
        made = services.access.create_token(name, [Scope(item) for item in scope], expires_at=expires_at)
    if as_json:
        print_json("auth create-token", token=made.token, **made.info.model_dump(mode="json"))
        return
    print(made.token)
    typer.echo("Keep it safe: it is shown only now. Send it as `Authorization: Bearer <token>`.", err=True)
    if first:
        typer.echo("From now on every request needs a token, also from this machine.", err=True)


@app.command("list")
def list_tokens(as_json: JsonOption = False) -> None:
    """List the tokens, without their secrets."""
    from relab.cli.context import open_services
    from relab.core.clock import format_time

    with open_services() as services:
        tokens = services.access.list_tokens()
    if as_json:
        print_json("auth list", items=[token.model_dump(mode="json") for token in tokens])
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


@app.command()
def revoke(token_id: Annotated[str, typer.Argument(help="The id that `lab auth list` shows.")]) -> None:
    """Make a token useless from now on."""
    from relab.cli.context import open_services

    with open_services() as services:
        services.access.revoke_token(token_id)
        now_open = services.access.is_open()
    print(f"Revoked {token_id}.")
    if now_open:
        typer.echo("No valid token is left: this machine may use the API without one again.", err=True)
