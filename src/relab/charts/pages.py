"""What every page with charts is made of: text that cannot become markup, its two scripts, and the policy that allows no other."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import platformdirs
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER: Final = Path(__file__).parent


def visible(value: object) -> str:
    """Return text in which what cannot be seen, or turns the direction of writing, is spelt out."""
    return "".join(_spelt(letter) for letter in str(value))


def embeddable(value: Any) -> Markup:
    """Return JSON that can stand inside of a `script` element: nothing in it can end the element or open another."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 escaped just now


def environment(templates: Path) -> Environment:
    """Return where templates of pages are rendered: whatever they show is escaped, and spelt out where it cannot be seen."""
    # Autoescape is what makes the page safe; the filter on everything makes it legible too.
    return Environment(loader=FileSystemLoader(templates), autoescape=True, undefined=StrictUndefined, finalize=_shown)


def style() -> Markup:
    """Return the style of all pages."""
    return Markup((_FOLDER / "page.css").read_text())  # noqa: S704 a file of this package


def scripts(libraries: str) -> list[Markup]:
    """Return the scripts of a page: the libraries that draw, and what has them draw the page's specifications."""
    return [_script(libraries), _script((_FOLDER / "page.js").read_text())]


def policy(allowed: Sequence[Markup]) -> str:
    """Return a page's Content-Security-Policy: these scripts, nothing else, and no network."""
    digests = [base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode() for script in allowed]
    sources = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@functools.cache
def vega() -> str:
    """Return the libraries that draw charts: Vega, Vega-Lite and vega-embed, as one script.

    Putting them together takes a second, so they are kept in the user's own cache. Not in a project's: that comes from
    others, and what is kept here is run by whoever opens a page.
    """
    path = platformdirs.user_cache_path("relab") / f"vega-{version('vl-convert-python')}.js"
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        bundle = _put_together()
    # Kept or not, there is a page.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        building = path.with_name(f".{os.getpid()}.{path.name}")
        building.write_text(bundle, encoding="utf-8")
        building.replace(path)
    return bundle


def _put_together() -> str:
    import vl_convert  # noqa: PLC0415 loads a whole JavaScript engine

    newest = max(vl_convert.get_vegalite_versions(), key=lambda text: [int(part) for part in text.split(".")])
    # Without a snippet it is the libraries alone; the package's annotations do not know that.
    bundle: str = vl_convert.javascript_bundle(vl_version=newest)  # type: ignore[call-arg]
    return bundle


def _spelt(letter: str) -> str:
    if letter in "\n\t":
        return letter
    # Control and format characters (among them those that reverse the writing), lone surrogates.
    return f"\\u{ord(letter):04x}" if unicodedata.category(letter) in {"Cc", "Cf", "Cs"} else letter


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _script(text: str) -> Markup:
    # Browsers read \r\n as \n before they compare the digest.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Markup(re.sub(r"</(script)", r"<\\/\1", text, flags=re.IGNORECASE))  # noqa: S704 files of packages
