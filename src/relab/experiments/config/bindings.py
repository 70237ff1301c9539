"""Parse and apply the changes of bindings on a command line, such as `temperature=0.7` or `model.name=small`.

Bindings are the values that a variant gives to its harness.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from relab.core.errors import MalformedBodyError
from relab.core.json import depth_of, parse_json
from relab.core.yaml_limits import MAX_DEPTH
from relab.experiments.errors import ForkInvalidError

_BEGINS_JSON: Final = ("{", "[", '"')
_NO_NUMBERS: Final = frozenset(("NaN", "Infinity", "-Infinity"))
_REMEDY: Final = "Write name=value or outer.inner=value, with a JSON value or a text, such as --set temperature=0.7."


def parse_bindings(texts: Sequence[str]) -> dict[str, Any]:
    """Parse changes of bindings (values that harnesses get), such as `model.name=small`; return `{dotted name: value}`.

    A value that begins with a quotation mark or a bracket must be JSON. Any other value is parsed as JSON if it is
    valid JSON (`0.7`), and is plain text if not (`small`). `NaN`, `Infinity` and unprintable text are rejected.

    Raises:
        ForkInvalidError: a change has no `=`, an empty name or broken JSON, or two changes set the same binding
            (such as `a` and `a.b`).
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not all(name.split(".")):
            raise ForkInvalidError(f"--set {text[:200]!r} is no change of a binding.", remedy=_REMEDY)
        for other in found:
            if f"{name}.".startswith(f"{other}.") or f"{other}.".startswith(f"{name}."):
                raise ForkInvalidError(f"--set {name[:200]!r} and --set {other[:200]!r} change the same binding.")
        found[name] = _value(name, value)
    return found


def changed(bindings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `bindings` (values that a harness gets) with the changed values in `changes`.

    Args:
        bindings: the bindings of a variant.
        changes: `{dotted name: value}`; for `a.b`, the object `a` is created if it is missing.

    Raises:
        ForkInvalidError: a dotted name such as `a.b` is given, but `a` is not an object; or the result is nested deeper
            than `MAX_DEPTH`.
    """
    made: dict[str, Any] = copy.deepcopy(dict(bindings))
    for name, value in changes.items():
        *outer, last = name.split(".")
        inner = made
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ForkInvalidError(f"--set {name[:200]!r}: the binding {part[:200]!r} is not an object.")
        inner[last] = value
    if depth_of(made) > MAX_DEPTH:
        raise ForkInvalidError(f"The changed bindings are nested deeper than {MAX_DEPTH} levels.", remedy=_REMEDY)
    return made


def unknown(bindings: Mapping[str, Any], changes: Mapping[str, Any]) -> list[str]:
    """Return the dotted names in `changes` that do not exist in `bindings` (values that a harness gets)."""
    found = []
    for name in changes:
        inner: Any = bindings
        for part in name.split("."):
            inner = inner.get(part, _ABSENT) if isinstance(inner, Mapping) else _ABSENT
        if inner is _ABSENT:
            found.append(name)
    return found


_ABSENT: Final = object()


def _value(name: str, text: str) -> Any:
    try:
        return parse_json(text.encode())
    except (MalformedBodyError, UnicodeEncodeError) as error:
        if text.strip().startswith(_BEGINS_JSON) or text.strip() in _NO_NUMBERS or not text.isprintable():
            raise ForkInvalidError(
                f"--set {name[:200]!r}: the value {text[:200]!r} is not valid JSON.", remedy=_REMEDY
            ) from error
        return text
