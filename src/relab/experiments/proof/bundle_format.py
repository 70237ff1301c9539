"""The format of a bundle: a zip archive with a manifest, an envelope, and the redacted files of a run below `run/`."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

MANIFEST_ENTRY: Final = "bundle.json"
ENVELOPE_ENTRY: Final = "bundle.intoto.json"
RUN: Final = "run/"
MAX_NAME: Final = 1_024
"""The greatest number of bytes of a path in a new bundle, because systems limit bytes; a reader accepts as many characters."""
PREDICATE: Final = "https://github.com/relab/relab/bundle/v1"
Kinds = dict[str, int]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BundleFile(_Part):
    """A file of a bundle.

    Attributes:
        path: its path below the run.
        size: its length in bytes.
        sha256: its SHA-256 in hexadecimal.
        is_original: whether it is as it was in the run, under the same name.
        masked: the number of masked values by kind.
    """

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    is_original: bool
    masked: Kinds = Field(default_factory=dict)


class LeftOut(_Part):
    """Files of the run that a bundle does not have: a file or a folder, why, and how many files of what size it holds."""

    path: str
    reason: str
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)


class Original(_Part):
    """The run from which a bundle was made.

    Attributes:
        verdict, state: the result of its verification when the bundle was made.
        signed_by: the id of the key that signed it; None if it was not signed.
        seal_sha256: the SHA-256 of its seal; None if something was masked: the digest of a text with a short password
            gives the password away.
        is_proven: whether the bundle has the seal and the signed statements, which prove the files that are original.
    """

    verdict: str
    state: str
    signed_by: str | None
    seal_sha256: str | None
    is_proven: bool


class BundleManifest(_Part):
    """The manifest of a bundle.

    Attributes:
        masked: the number of masked values by kind, of all files and their names.
        declared: whether the value of each secret that the experiment declares was known when the bundle was made.
    """

    schema_version: Literal["bundle_v1"] = "bundle_v1"
    run_id: str
    runner_version: str
    original: Original
    masked: Kinds
    declared: dict[str, bool]
    files: list[BundleFile]
    left_out: list[LeftOut]
