"""`lab knobs-init` and `lab knobs-validate`: write example files of knobs and overrides, and check overrides.

A knob is a field of the experiment that may be changed. An override is a new value for a knob.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relab.cli.output import JsonOption, plain, print_json, print_table


def knobs_init(json: JsonOption = False) -> None:
    """Write an example manifest of knobs (fields of the experiment that may be changed) to .lab/knobs/.

    An empty file of overrides (new values of knobs) is written beside the manifest.
    """
    from relab.experiments.service import write_knobs

    files = write_knobs(Path.cwd())
    if json:
        print_json("knobs-init", written=[str(path) for path in files])
        return
    for path in files:
        print(f"wrote: {plain(path)}")


def knobs_validate(
    manifest: Annotated[
        Path | None, typer.Option(help="The manifest of knobs. Default: the one named in the overrides.")
    ] = None,
    overrides: Annotated[Path, typer.Option(help="The file of overrides, with a value for each knob to set.")] = Path(
        ".lab/knobs/overrides.json"
    ),
    json: JsonOption = False,
) -> None:
    """Check a file of overrides against the manifest of knobs.

    A knob is a field of the experiment that may be changed, and an override is a new value for a knob.
    Each override must name a knob of the manifest, and its value must have the right type and lie within the bounds.
    """
    from relab.experiments.service import load_overrides

    checked = load_overrides(overrides, Path.cwd(), manifest)
    if json:
        values = {knob.id: value for knob, value in checked}
        print_json("knobs-validate", valid=True, values=values)
        return
    rows = [[knob.id, value, knob.role, knob.scientific_role] for knob, value in checked]
    print_table(f"Valid overrides: {len(checked)}", ("knob", "value", "role", "scientific role"), rows)
