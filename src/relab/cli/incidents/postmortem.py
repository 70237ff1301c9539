"""`lab incidents postmortem`: print the postmortem of an incident, or write it as Markdown or as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relab.cli.context import open_services
from relab.cli.output import JsonOption, plain, print_json, write_text


def postmortem(
    incident_id: Annotated[str, typer.Argument(help="The id of the incident.")],
    html: Annotated[Path | None, typer.Option(help="Write a page that needs no network to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown to this file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the postmortem of an incident: timeline, evidence, actions and follow-ups. Default: Markdown to stdout."""
    from pydantic import TypeAdapter

    from relab.incidents.service import Postmortem

    with open_services() as services:
        reader = services.incidents.postmortems
        found = reader.of(incident_id)
        if html is not None:
            write_text(html, reader.page(incident_id).html, overwrite=force)
        if markdown is not None:
            write_text(markdown, reader.markdown(incident_id), overwrite=force)
        text = reader.markdown(incident_id) if html is None and markdown is None and not as_json else ""
    written = [str(path.resolve()) for path in (html, markdown) if path is not None]
    if as_json:
        document = TypeAdapter(Postmortem).dump_python(found, mode="json")
        print_json("incidents postmortem", postmortem=document, files=written)
    elif written:
        for name in written:
            print(f"Written: {plain(name)}")
    else:
        print(text, end="")
