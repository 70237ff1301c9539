"""Read the stored OTLP requests of a harness, without decoding them. Also their limits and types."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

from relab.experiments.workspace.untrusted_files import read_plain

PORT: Final = 4318
MAX_BODY_BYTES: Final = 64 * 1_048_576
MAX_TRIAL_BYTES: Final = 512 * 1_048_576

Encoding = Literal["protobuf", "json"]
SpanSink = Callable[[bytes, Encoding], None]
"""Stores the body of an OTLP request with its encoding; raises an error if it cannot."""


def stored_exports(folder: Path) -> Iterator[tuple[bytes, Encoding]]:
    """Yield `(body, encoding)` of each OTLP request that is stored in `folder`, in the order of arrival."""
    for path in numbered_files(folder):
        body = read_plain(path, MAX_BODY_BYTES, below=folder)
        if body is not None:
            yield body, "json" if path.suffix == ".json" else "protobuf"


def numbered_files(folder: Path) -> list[Path]:
    """Return the files with the stored bodies of OTLP requests, in the order of their numbers.

    The list is empty if the folder is missing or a link.
    """
    if not folder.is_dir() or folder.is_symlink():
        return []
    # By number and not by name, because numbers above 99999 have more digits than the others.
    found = [path for path in folder.iterdir() if path.stem.isascii() and path.stem.isdecimal()]
    return sorted(found, key=lambda path: int(path.stem))
