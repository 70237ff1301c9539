"""Find the folder of the real data, and describe and read a data set."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
"""A record in the format of its data set."""

Body: TypeAlias = dict[str, Any]
"""The JSON body of one `POST /agent-runs`."""

PROJECT_ROOT = Path(__file__).resolve().parents[2]


class MissingDataError(Exception):
    """The real data was not found, or is incomplete; the caller must give its directory."""


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        name: its folder under the data directory, and the `environment` of its runs.
        expected: number of runs of the published set; any other number means a damaged copy.
        read: yields the body of each run in the given folder.
    """

    name: str
    expected: int
    read: Callable[[Path], Iterator[Body]]


def find_data(option: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the directory of the real data: `option`, else `RELAB_DATA`, else `../shared/data` beside the project.

    Raises:
        MissingDataError: the directory does not exist.
    """
    if option is not None:
        chosen = option
    elif environ.get("RELAB_DATA"):
        chosen = Path(environ["RELAB_DATA"])
    else:
        chosen = PROJECT_ROOT.parent / "shared" / "data"
    if not chosen.is_dir():
        raise MissingDataError(f"The data directory {chosen} does not exist. Pass --data DIR or set RELAB_DATA.")
    return chosen


def bodies(source: Source, data: Path) -> list[Body]:
    """Return the bodies of all runs of a data set; `data` is the data directory.

    Raises:
        MissingDataError: its folder is missing, or its number of runs differs from the published one.
    """
    folder = data / source.name
    if not folder.is_dir():
        raise MissingDataError(f"The data directory {data} has no folder {source.name}. Pass --data DIR.")
    found = list(source.read(folder))
    if len(found) != source.expected:
        raise MissingDataError(f"{folder} holds {len(found)} runs, not the {source.expected} of the published set.")
    return found


def read_json(path: Path) -> Any:
    """Return the content of one UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
