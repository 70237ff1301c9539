"""Logs in Inspect's format that tests write: small, malicious, or unusual."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIXTURES = Path(__file__).parents[2] / "fixtures" / "inspect"
"""Logs that Inspect itself wrote; `rig/inspect_logs` records them."""
AT = "2026-01-01T00:00:0{}Z"


def sample(name: str | int = "one", epoch: int = 1, **fields: Any) -> dict[str, Any]:
    """Return a sample with a correct answer after one model call; `fields` replace its fields."""
    event = {"event": "model", "model": "m/x", "timestamp": AT.format(1), "completed": AT.format(2), "output": {}}
    return {
        "id": name,
        "epoch": epoch,
        "input": f"question {name}",
        "target": "yes",
        "scores": {"match": {"value": "C"}},
        "events": [event],
        "started_at": AT.format(0),
        "completed_at": AT.format(5),
        **fields,
    }


def header(*, epochs: int = 1, **fields: Any) -> dict[str, Any]:
    """Return the header of a finished log; `fields` replace fields of `eval`."""
    spec = {
        "eval_id": "e1",
        "created": AT.format(0),
        "task": "quiz",
        "model": "m/x",
        "dataset": {},
        "config": {"epochs": epochs},
        "scorers": [{"name": "match"}],
    }
    return {"version": 2, "status": "success", "eval": {**spec, **fields}}


def write_entries(path: Path, entries: Mapping[str, Any], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a ZIP archive; values that are not bytes are written as JSON."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content if isinstance(content, bytes) else json.dumps(content))
    return path


def write_log(path: Path, *samples: Mapping[str, Any], **fields: Any) -> Path:
    """Write a finished log of these samples; `fields` are passed to `header`."""
    entries = {f"samples/{item['id']}_epoch_{item['epoch']}.json": item for item in samples}
    return write_entries(path, {**entries, "header.json": header(**fields)})
