"""OTLP exports of a harness: limits, types and the stored files, without the library that decodes them."""

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
    """Yield the bodies that a receiver has stored in a folder, in the order of their arrival, each with its encoding."""
    for path in sorted(folder.glob("[0-9]*")) if folder.is_dir() and not folder.is_symlink() else ():
        body = read_plain(path, MAX_BODY_BYTES, below=folder)
        if body is not None:
            yield body, "json" if path.suffix == ".json" else "protobuf"
