"""Import all modules of this package, and collect their constants `FORMAT` in `FORMATS`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from relab.builds.logs.formats.descriptor import LogFormat

_OTHER_MODULES: Final = frozenset({"__init__", "descriptor", "registry"})


def _load(name: str) -> LogFormat:
    found = getattr(import_module(f"{__package__}.{name}"), "FORMAT", None)
    if not isinstance(found, LogFormat):
        raise TypeError(f"formats/{name}.py must define FORMAT, a LogFormat.")
    return found


_MODULES: Final = sorted({path.stem for path in Path(__file__).parent.glob("*.py")} - _OTHER_MODULES)

FORMATS: Final = tuple(sorted(map(_load, _MODULES), key=lambda each: (each.is_vague, each.name)))
"""All formats: those of one tool first, so that a line belongs to the most specific one."""
