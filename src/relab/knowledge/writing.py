"""Convert a runbook to the text of its file, from which `reading.parse_runbook` makes an equal runbook."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from relab.knowledge.models import FactCondition, Runbook
from relab.knowledge.reading import FENCE


def write_runbook(runbook: Runbook) -> str:
    """Return the text of a runbook's file. Its values are written as JSON, which all YAML parsers read in the same way."""
    front_matter: dict[str, Any] = {
        "cause": runbook.cause,
        "title": runbook.title,
        "prior": runbook.prior,
        "risk": runbook.risk.value,
        "symptoms": list(runbook.symptoms),
        "looks": list(runbook.looks),
        "requires": [_fields(each) for each in runbook.requires],
        "expects": [
            {**_fields(each.condition), "likely": each.likely, "otherwise": each.otherwise} for each in runbook.expects
        ],
        "actions": [
            {"action": each.action, "parameters": dict(each.parameters), "why": each.why} for each in runbook.actions
        ],
        "mended": [_fields(each) for each in runbook.mended],
        **({"sheds": True} if runbook.sheds else {}),
    }
    lines = [line for name, value in front_matter.items() for line in _lines(name, value)]
    body = f"\n{runbook.text}\n" if runbook.text else ""
    return "\n".join([FENCE, *lines, FENCE, ""]) + body


def _fields(condition: FactCondition) -> dict[str, Any]:
    return {"fact": condition.fact, condition.operator.value: condition.value}


def _lines(name: str, value: Any) -> Iterator[str]:
    """Yield the lines of a field in a runbook's file; a list has one line per item, so that diffs are easy to read."""
    if isinstance(value, list) and value:
        yield f"{name}:"
        yield from (f"  - {_flow(item)}" for item in value)
    else:
        yield f"{name}: {_flow(value)}"


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    # Text stays readable; unprintable characters are escaped.
    written = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else _escaped(char) for char in written)


def _escaped(char: str) -> str:
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else json.dumps(char)[1:-1]


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else _flow(key)
