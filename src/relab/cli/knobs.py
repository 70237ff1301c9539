"""`lab knobs-init` and `lab knobs-validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relab.cli.output import JsonOption, plain, print_json, print_table


def knobs_init(json: JsonOption = False) -> None:
    """Write a manifest of knobs and an empty overrides file, .lab/knobs/."""
    from relab.cli.experiments import open_experiments

    with open_experiments(telemetry=False) as service:
        files = service.init_knobs(Path.cwd())
    if json:
        print_json("knobs-init", written=[str(path) for path in files])
        return
    for path in files:
        print(f"wrote: {plain(path)}")


def knobs_validate(
    manifest: Annotated[Path | None, typer.Option(help="Default: the one that the overrides name.")] = None,
    overrides: Annotated[Path, typer.Option(help="The values.")] = Path(".lab/knobs/overrides.json"),
    json: JsonOption = False,
) -> None:
    """Check that every value is for a knob of the manifest, of its type, and within its bounds."""
    from relab.cli.experiments import open_experiments

    with open_experiments(telemetry=False) as service:
        checked = service.validate_knobs(Path.cwd(), overrides, manifest)
    if json:
        values = {knob.id: value for knob, value in checked}
        print_json("knobs-validate", valid=True, values=values)
        return
    rows = [[knob.id, value, knob.role, knob.scientific_role] for knob, value in checked]
    print_table(f"{len(checked)} overrides are valid", ("knob", "value", "role", "scientific role"), rows)
