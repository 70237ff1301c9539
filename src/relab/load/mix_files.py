"""Read request mixes: built-in ones by name, others from YAML or JSON files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import ValidationError

from relab.core.validation import plain_message
from relab.core.yaml_source import YamlReader, YamlSource
from relab.load.errors import MixError, PlanError
from relab.load.mixes import request_stream
from relab.load.models import Mix, RequestTemplate

_YAML: Final = YamlReader(MixError)


def built_in_names() -> list[str]:
    """Return the sorted names of the built-in mixes, which are made for the testbed's shop (a small web service)."""
    folder = resources.files("relab.load") / "builtin"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def built_in_text(name: str) -> str:
    """Return the YAML text of the built-in mix with this name.

    Raises:
        MixError: there is no mix of that name.
    """
    if name not in built_in_names():
        raise MixError(f"There is no mix {name!r}.", remedy=f"Choose one of {', '.join(built_in_names())}.")
    return (resources.files("relab.load") / "builtin" / f"{name}.yaml").read_text(encoding="utf-8")


def built_in_mix(name: str) -> Mix:
    """Return the built-in mix with this name.

    Raises:
        MixError: there is no mix of that name.
    """
    return _mix_of(_YAML.parse(built_in_text(name), Path(f"{name}.yaml")))


def read_mix(path: Path) -> Mix:
    """Return the mix (the templates of a load's requests, with weights) in a YAML or JSON file.

    Raises:
        MixError: the file cannot be read, or is not a valid mix; the error lists each mistake with its field and line.
    """
    return _mix_of(_YAML.read(path))


def parse_mix(text: str, source: str) -> Mix:
    """Return the mix (the templates of a load's requests, with weights) in a YAML or JSON text.

    `source` names the text in errors.

    Raises:
        MixError: the text is not a valid mix; the error lists each mistake with its field and line.
    """
    return _mix_of(_YAML.parse(text, Path(source)))


def _mix_of(source: YamlSource) -> Mix:
    try:
        mix = Mix.model_validate(source.value)
    except ValidationError as error:
        problems = tuple((source.place(found["loc"]), plain_message(found["msg"])) for found in error.errors())
        raise MixError(f"{source.path} is not a request mix.", problems=problems) from error
    # Parse the templates too, so that the error of a wrong template names the file and comes before the load.
    try:
        request_stream(mix, 0)
    except MixError as error:
        raise MixError(f"{source.path}: {error.message}", remedy=error.remedy) from error
    return mix


def single_request(url: str) -> tuple[str, Mix]:
    """Split a URL into the base URL of its service, and a mix (the requests of a load) of one GET request.

    The request has the path and the query of the URL.

    Raises:
        PlanError: the text is not an HTTP URL, or contains a user name.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise PlanError(f"{url!r} is not a URL: {error}.") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise PlanError(f"{url!r} is not a URL of a service.", remedy="Write http://HOST:PORT/PATH.")
    if parts.username is not None:
        raise PlanError("The URL must not name a user.", remedy="Give an Authorization header.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    # Braces in a URL are literal text, not placeholders of values.
    template = RequestTemplate(name="request", path=path.replace("{", "{{").replace("}", "}}"))
    base = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    return base, Mix(name="url", requests=(template,))
