"""`lab schema-validate` and `lab hooks-validate`: check JSON files of experiments, or print their schemas."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from relab.cli.output import JsonOption, plain, print_json


def schema_validate(
    schema: Annotated[
        str | None, typer.Option(help="The name of the schema. Default: the schema_version of the document.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="The document: JSON, or JSON Lines with one document per line.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check a document of an experiment, such as a trial's output; without --file, print the schema."""
    from relab.experiments.service import check_file, schema_named

    if file is None:
        if schema is None:
            raise typer.BadParameter(
                "give the name of the schema to print, or the --file to check", param_hint="--schema"
            )
        found = schema_named(schema)
        if json:
            print_json("schema-validate", schema=found)
        else:
            print(dumps(found, indent=2))
        return
    name, documents = check_file(file, schema)
    if json:
        print_json("schema-validate", valid=True, schema=name, documents=documents)
        return
    print(f"{plain(file)}: {documents:,} valid {'document' if documents == 1 else 'documents'} of {name}")


def hooks_validate(
    manifest: Annotated[Path, typer.Option(help="The manifest of the harness, harness_manifest_v1.")],
    events: Annotated[Path, typer.Option(help="Its events, one JSON object in each line.")],
    json: JsonOption = False,
) -> None:
    """Check a harness's events against its manifest: schema, ids, order, and answers to the control file.

    In the control file, the runner asks the harness to continue, to write a checkpoint, or to stop.
    """
    from relab.experiments.service import validate_hooks

    found = validate_hooks(manifest, events)
    if json:
        counts = dict(found.counts)
        print_json("hooks-validate", valid=True, integration_level=found.level, events=found.events, counts=counts)
        return
    print(f"{plain(events)}: {found.events:,} valid events of the level {found.level}")
