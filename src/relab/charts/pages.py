"""Render HTML pages with charts: escape their texts, and add scripts and a Content-Security-Policy.

A page has two scripts: the drawing libraries and `page.js`. The policy allows only these.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import platformdirs
from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined, Template
from jinja2.bccache import Bucket
from markupsafe import Markup

from relab import __version__
from relab.core.atomic_files import replace_file

_FOLDER: Final = Path(__file__).parent


def visible(value: object) -> str:
    """Return a value as text, with Unicode escapes in place of invisible and direction-changing characters."""
    return "".join(_spelt(letter) for letter in str(value))


def embeddable(value: Any) -> Markup:
    """Return `value` as JSON that is safe in an HTML `script` element: it cannot end the element or open another one."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 escaped just now


def environment(templates: Path) -> Environment:
    """Return a Jinja environment for page templates: it escapes all values, and makes invisible characters visible.

    `templates` is the folder of the templates. They may also use the templates of this package, `chart_page.html` (the
    frame of every page) and `tables.html` (macros).
    """
    # Autoescape makes the page safe; `finalize` also makes every value legible.
    return Environment(
        loader=FileSystemLoader((templates, _FOLDER)),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        bytecode_cache=_CompiledTemplates(),
    )


@functools.cache
def template(folder: Path, name: str, **filters: Callable[..., Any]) -> Template:
    """Return a page template, compiled at its first use in this process.

    Args:
        folder: the folder of the template.
        name: the file name of the template.
        filters: functions that the template calls as filters, by name.
    """
    found = environment(folder)
    found.filters.update(filters)
    return found.get_template(name)


@dataclass(frozen=True, slots=True)
class ChartPage:
    """A page with charts: one HTML file that needs no network.

    Attributes:
        html: the whole page.
        policy: the Content-Security-Policy of the page, for the HTTP header; `html` contains the policy, too.
    """

    html: str
    policy: str


def render(
    page: Template, specs: Sequence[Mapping[str, Any]], *, libraries: str | None = None, **values: Any
) -> ChartPage:
    """Render a template and its charts to one HTML page.

    A page with charts contains the drawing libraries and `page.js`. A page without charts has no scripts.

    Args:
        page: a template that extends `chart_page.html`.
        specs: the Vega-Lite specifications of its charts.
        libraries: the drawing libraries as one script; if None, the script that `vega()` returns is used.
        values: the other values of the template, by name.
    """
    scripts = []
    if specs:
        scripts = [_script(vega() if libraries is None else libraries), _script((_FOLDER / "page.js").read_text())]
    allowed = _policy(scripts)
    style = Markup((_FOLDER / "page.css").read_text())  # noqa: S704 a file of this package
    html = page.render(specs=embeddable(specs), style=style, scripts=scripts, policy=allowed, **values)
    return ChartPage(html, allowed)


def _policy(allowed: Sequence[Markup]) -> str:
    """Return a Content-Security-Policy that allows only the given scripts (by their digests) and no network access."""
    sources = " ".join(f"'sha256-{_digest(script)}'" for script in allowed)
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


@functools.cache
def vega() -> str:
    """Return the drawing libraries Vega, Vega-Lite and vega-embed as one script.

    The script is cached in the user's own cache directory.
    """
    # Not in a project, which may come from others: the script runs in the browser of every reader of a page.
    path = _cached(f"vega-{version('vl-convert-python')}.js")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        bundle = _put_together()
    _keep(path, bundle.encode())
    return bundle


class _CompiledTemplates(BytecodeCache):
    """Caches compiled templates in the user's own cache directory."""

    def load_bytecode(self, bucket: Bucket) -> None:
        """Load a compiled template from its cache file into `bucket`, Jinja's container for it.

        The bucket stays empty if the file is missing or damaged; Jinja then compiles the template again.
        """
        try:
            bucket.bytecode_from_string(self._path(bucket).read_bytes())
        except OSError:
            return
        except Exception:  # noqa: BLE001 pickle raises many kinds for damaged bytes; the template is compiled again
            bucket.reset()

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Write a compiled template to its cache file; `bucket` is Jinja's container of the template."""
        _keep(self._path(bucket), bucket.bytecode_to_string())

    def _path(self, bucket: Bucket) -> Path:
        # A compiled template depends on both versions; Jinja itself notices a change of the template's source.
        return _cached("templates") / f"{bucket.key}-{__version__}-{version('jinja2')}"


def _cached(name: str) -> Path:
    return platformdirs.user_cache_path("relab") / name


def _keep(path: Path, content: bytes) -> None:
    # A failed write to the cache must not prevent the page.
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)


def _put_together() -> str:
    import vl_convert  # noqa: PLC0415 loads a whole JavaScript engine

    newest = max(vl_convert.get_vegalite_versions(), key=lambda text: [int(part) for part in text.split(".")])
    # Without a snippet the bundle contains only the libraries; the package's annotations wrongly require one.
    bundle: str = vl_convert.javascript_bundle(vl_version=newest)  # type: ignore[call-arg]
    return bundle


def _spelt(letter: str) -> str:
    if letter in "\n\t":
        return letter
    # Control and format characters (including those that change the writing direction), and lone surrogates.
    return f"\\u{ord(letter):04x}" if unicodedata.category(letter) in {"Cc", "Cf", "Cs"} else letter


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.lru_cache(maxsize=4)
def _digest(script: Markup) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@functools.lru_cache(maxsize=4)
def _script(text: str) -> Markup:
    # Browsers read \r\n as \n before they compare the digest.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return Markup(re.sub(r"</(script)", r"<\\/\1", text, flags=re.IGNORECASE))  # noqa: S704 files of packages
