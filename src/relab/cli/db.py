"""`lab db`: migrate and check the schema of the database."""

from __future__ import annotations

from typing import Annotated

import typer

from relab.cli.confirming import confirm
from relab.cli.context import open_services
from relab.cli.output import EXIT_FAILED, JsonOption, print_json

app = typer.Typer(help="Migrate and check the database.", no_args_is_help=True)


@app.command()
def upgrade(
    revision: Annotated[str, typer.Argument(help="Target revision.")] = "head", as_json: JsonOption = False
) -> None:
    """Migrate the database to the newest schema, or to the schema of a given revision."""
    from relab.storage import migrate

    with open_services(prepare=False) as services:
        migrate.upgrade(services.database, revision)
    check(as_json=as_json)


@app.command()
def downgrade(
    revision: Annotated[str, typer.Argument(help="Target revision; `base` deletes all tables and all data.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Migrate the database back to an older schema. Data for which this schema has no place is lost."""
    from relab.storage import migrate

    with open_services(prepare=False) as services:
        if not yes:
            confirm(f"Migrate {services.database.describe()} back to {revision}? Data may be lost.")
        migrate.downgrade(services.database, revision)
    print(f"The schema is at {revision}.")


@app.command()
def check(as_json: JsonOption = False) -> None:
    """Check whether the schema of the database fits this version of relab. Exit code 1 if the schema does not fit."""
    from relab.storage import schema

    with open_services(prepare=False) as services:
        state, revision = schema.schema_state(services.database)
        where = services.database.describe()
    if as_json:
        print_json("db check", state=state, revision=revision, head=schema.head(), database=where)
    else:
        print(f"{where}: schema {state} (revision {revision or 'none'}, this version needs {schema.head()})")
    if state is not schema.SchemaState.CURRENT:
        raise typer.Exit(EXIT_FAILED)
