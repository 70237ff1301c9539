"""`lab incidents postmortem`: what there is to tell of an incident, as Markdown or as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from relab.cli.output import JsonOption, plain, print_json


def postmortem(
    incident_id: Annotated[str, typer.Argument(help="Of the incident.")],
    html: Annotated[Path | None, typer.Option(help="Write a page that needs no network into this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown into this file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell an incident afterwards, or as far as it is: what happened, what worked, what follows. Default: Markdown to stdout."""
    from pydantic import TypeAdapter

    from relab.cli.context import open_services
    from relab.incidents.service import Postmortem

    with open_services() as services:
        told = services.incidents.postmortems
        found = told.of(incident_id)
        if html is not None:
            _write(html, told.page(incident_id).html, force=force)
        if markdown is not None:
            _write(markdown, told.markdown(incident_id), force=force)
        text = told.markdown(incident_id) if html is None and markdown is None and not as_json else ""
    written = [str(path.resolve()) for path in (html, markdown) if path is not None]
    if as_json:
        document = TypeAdapter(Postmortem).dump_python(found, mode="json")
        print_json("incidents postmortem", postmortem=document, files=written)
    elif written:
        for name in written:
            print(f"Written: {plain(name)}")
    else:
        print(text, end="")


def _write(path: Path, text: str, *, force: bool) -> None:
    """Write a file; one that exists only if it may be replaced.

    Raises:
        ConflictError: it exists.
        ConfigurationError: it cannot be written.
    """
    from relab.core.errors import ConfigurationError, ConflictError

    try:
        with path.open("w" if force else "x", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConflictError(f"The file {path} exists.", remedy="Use --force to replace it.") from error
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or error}.",
            remedy="Choose a folder that this user can write, on a disk with room.",
        ) from error
