"""Types for the masking of credentials: the function that masks bytes, and the redacted form of a file of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

PARQUET: Final = b"PAR1"
"""The first bytes of a Parquet file."""
Mask = Callable[[bytes], tuple[bytes, Counter[str]]]
"""Masks the credentials in bytes; returns the masked bytes, and the number of masked values by kind."""


@dataclass(frozen=True)
class RedactedFile:
    """The redacted form of one file of a run: the files that replace this file in a bundle.

    Attributes:
        files: `{suffix that is added to the path: content}`; normally one file, with the suffix "".
        masked: the number of masked values by kind.
        left_out: one word for the reason why the file is left out of the bundle; None if it is in the bundle.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    masked: Counter[str] = field(default_factory=Counter)
    left_out: str | None = None
