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
    """A file of a bundle (an archive of a run for other people, with secrets masked).

    Attributes:
        path: the path of the file, below the bundle's folder `run/`. It differs from the path in the run if that path
            contains credentials or is not valid on every system.
        size: the length of the file in bytes.
        sha256: the SHA-256 of the file, in hexadecimal.
        is_original: whether the file has the same name and the same content as in the run.
        masked: the number of masked values in the file, by kind of value.
    """

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    is_original: bool
    masked: Kinds = Field(default_factory=dict)


class LeftOut(_Part):
    """A file or folder of the run that its bundle (a redacted archive) does not contain.

    `reason` is a word such as `unreadable`. `files` is the number of files and `bytes` their total size; for a folder
    that cannot be read, both are 0.
    """

    path: str
    reason: str
    files: int = Field(ge=0)
    bytes: int = Field(ge=0)


class Original(_Part):
    """The state of the run when a bundle (a redacted archive) was made from it, as the bundle's manifest records it.

    Attributes:
        verdict: the verdict of the run's verification at that time.
        state: the state of the run at that time, such as `completed`.
        signed_by: the id of the key that signed the run's statements; None if the run was not signed.
        seal_sha256: the SHA-256 of the run's seal (the digests of its files). None if the run has no seal, or if the
            bundle has masked values, because with digests a masked value could be guessed.
        is_proven: whether the bundle contains the run's seal and signed statements. They prove that the files which the
            manifest marks with `is_original` are unchanged.
    """

    verdict: str
    state: str
    signed_by: str | None
    seal_sha256: str | None
    is_proven: bool


class BundleManifest(_Part):
    """The manifest of a bundle (an archive of a run for other people, with secrets masked).

    Attributes:
        original: the state of the run when the bundle was made.
        masked: the number of masked values in all files and file names, by kind of value.
        declared: for each secret that the experiment or the person who published the run declared, whether its value
            was known and long enough to be masked. Such a value is masked wherever it occurs. Any other value is
            masked only where it looks like a credential.
    """

    schema_version: Literal["bundle_v1"] = "bundle_v1"
    run_id: str
    runner_version: str
    original: Original
    masked: Kinds
    declared: dict[str, bool]
    files: list[BundleFile]
    left_out: list[LeftOut]
