"""Publish a run: write one zip archive with its redacted files. The same run and settings give the same bytes."""

from __future__ import annotations

import hashlib
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relab.core.atomic_files import replacing
from relab.core.errors import InvalidInputError
from relab.core.json import canonical_json
from relab.core.masking import MASK
from relab.experiments.errors import RunBusyError
from relab.experiments.proof.bundle_format import (
    ENVELOPE_ENTRY,
    MANIFEST_ENTRY,
    MAX_NAME,
    PREDICATE,
    RUN,
    BundleFile,
    BundleManifest,
    LeftOut,
    Original,
)
from relab.experiments.proof.bundle_redaction import MAX_BYTES, BundleRedactor, declared_in, secrets_in
from relab.experiments.proof.envelopes import sign
from relab.experiments.proof.folder_walk import Listing, listings, open_listed
from relab.experiments.proof.proving import usable_signer
from relab.experiments.proof.redacted_file import RedactedFile
from relab.experiments.proof.seal import NOT_SEALED
from relab.experiments.proof.statements import statement_about
from relab.experiments.proof.verification import ProofVerdict, Verification, verify_run
from relab.experiments.records.file_names import SEAL, STATEMENTS
from relab.experiments.records.run_folder import RunFolder, open_run
from relab.experiments.records.seals import digest_of_file
from relab.experiments.trial.evidence import STORE
from relab.experiments.trial.redaction import MIN_CHARS
from relab.experiments.workspace.untrusted_trees import size_of_copy

_DIGEST: Final = re.compile(rb"[0-9a-f]{64}")
_WORKSPACE: Final = "workspace"
_OF_TRIALS: Final = "trials/"
_FIXED_TIME: Final = (1980, 1, 1, 0, 0, 0)
_UNSAFE: Final = re.compile(r'[<>:"|?*\\%]|[. ]$')
_MAX_PART_BYTES: Final = 255
"""The size that a name in a folder may have on usual file systems."""
_DIGESTS_BESIDE: Final = (SEAL, STATEMENTS)


@dataclass(frozen=True)
class BundleRequest:
    """The run to publish as a bundle (a redacted archive), the file to write, and options.

    Attributes:
        run_dir: the folder of the run.
        target: the file to write.
        with_workspaces: whether the trials' copies of the project are in the bundle.
        secrets: names of environment variables whose values are masked, in addition to the experiment's declared
            secrets.
    """

    run_dir: Path
    target: Path
    with_workspaces: bool = False
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """A bundle (a redacted archive of a run) that was written.

    Attributes:
        path: the file.
        manifest: the manifest of the bundle: its files, the masked values, and the files that are left out.
        key_id: the id of the key that signed the bundle; None if the bundle is not signed.
        warnings: sentences for the user.
    """

    path: Path
    manifest: BundleManifest
    key_id: str | None
    warnings: tuple[str, ...]


def publish(request: BundleRequest, *, environment: Mapping[str, str], signing_key: Path) -> Published:
    """Write a bundle of a run (an archive without secrets); the run is not changed.

    Args:
        request: the run, the file to write, and options.
        environment: the environment variables, some of which are secrets: those that the experiment or the request
            declares, and those with a name such as `API_KEY`. Their values are masked wherever they occur in the
            bundle, except values shorter than `MIN_CHARS`.
        signing_key: the file of the key that signs the bundle; it is created if it is missing. If the key cannot be
            used, the bundle is not signed, and the result has a warning.

    Raises:
        RunNotFoundError, RunDamagedError: there is no such run, or its manifest cannot be read.
        RunBusyError: a process works on the run.
        InvalidInputError: an environment variable in `request.secrets` is not set or too short to be masked, the target
            exists, or the target is in the folder of the run.
        OSError: the bundle cannot be written, for example on a full disk.
    """
    run = open_run(request.run_dir)
    target = request.target.absolute()
    if target.is_relative_to(run.path.absolute()):
        raise InvalidInputError(f"{target} is in the folder of the run, which a bundle must not change.")
    if target.exists():
        raise InvalidInputError(f"{target} exists already.", remedy="Delete it, or give another --output.")
    missing = [name for name in request.secrets if not environment.get(name)]
    if missing:
        raise InvalidInputError(f"--secret names {missing[0]}, which is not set in the environment.")
    short = [name for name in request.secrets if len(environment[name]) < MIN_CHARS]
    if short:
        raise InvalidInputError(
            f"--secret names {short[0]}, whose value has fewer than {MIN_CHARS} characters: it occurs by chance in other "
            "text, so it cannot be masked.",
            remedy=f"Remove it from the files of the run, then publish without --secret {short[0]}.",
        )
    signer = usable_signer(signing_key)
    verified = verify_run(run.path)
    if verified.state == "running":
        raise RunBusyError(f"A process is working on {run.path}.", remedy="Publish the run when it has ended.")
    declared = declared_in(environment, (*run.config.runtime.harness.secrets, *request.secrets))
    redactor = BundleRedactor(secrets_in(environment, declared))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".bundle-") as folder:
        bundle = _Bundle(run, redactor, Path(folder), with_workspaces=request.with_workspaces)
        manifest = bundle.collect(verified, {name: value is not None for name, value in declared.items()})
        raw = canonical_json(manifest.model_dump(exclude_defaults=False)).encode()
        envelope = None
        if signer.key is not None:
            predicate = manifest.model_dump(exclude={"files", "left_out"}) | {"files": len(manifest.files)}
            sha256 = hashlib.sha256(raw).hexdigest()
            envelope = sign(statement_about({MANIFEST_ENTRY: sha256}, PREDICATE, predicate), signer.key)
        with replacing(target, durable=True) as fresh:
            _write_zip(fresh, raw, envelope, bundle.entries())
    warnings = list(signer.warnings)
    if verified.verdict is not ProofVerdict.VERIFIED:
        warnings.append(f"The run is {verified.verdict.value}, and the bundle says so. {verified.message}")
    return Published(target, manifest, signer.key_id, tuple(warnings))


class _Bundle:
    """Collects the redacted files of a run in a folder."""

    def __init__(self, run: RunFolder, redactor: BundleRedactor, folder: Path, *, with_workspaces: bool) -> None:
        self._run = run
        self._redactor = redactor
        self._folder = folder
        self._with_workspaces = with_workspaces
        self._files: list[BundleFile] = []
        self._left_out: list[LeftOut] = []
        self._masked: Counter[str] = Counter()
        self._names: dict[str, str] = {"": ""}
        self._taken: set[str] = set()

    def collect(self, verified: Verification, declared: dict[str, bool]) -> BundleManifest:
        """Write a redacted copy of each file of the run to the folder of this object; return the bundle's manifest.

        Args:
            verified: the verification of the run.
            declared: `{name of a secret to mask: whether its value is known and masked}`, for the manifest.
        """
        left_out_folders: set[str] = set()
        for listing in listings(self._run.path, NOT_SEALED - {SEAL, STATEMENTS}):
            if listing.folder in left_out_folders:
                left_out_folders.update(listing.path_of(name) for name in listing.folders)
                continue
            left_out_folders |= self._add_folder(listing)
        if self._masked:
            self._mask_digests()
        seal = digest_of_file(self._run.path / SEAL)
        key = verified.signer.key
        is_proven = {SEAL, STATEMENTS} <= {file.path for file in self._files if file.is_original}
        original = Original(
            verdict=verified.verdict.value,
            state=verified.state,
            signed_by=None if key is None else key.key_id,
            seal_sha256=None if self._masked or seal is None else seal.removeprefix("sha256:"),
            is_proven=is_proven and not self._masked,
        )
        return BundleManifest(
            run_id=self._run.run_id,
            runner_version=str(self._run.manifest["runner_version"]),
            original=original,
            masked=dict(sorted(self._masked.items())),
            declared=declared,
            files=sorted(self._files, key=lambda file: file.path),
            left_out=sorted(self._left_out, key=lambda part: part.path),
        )

    def entries(self) -> Iterator[tuple[str, Path]]:
        """Yield `(path below the bundle's folder "run/", redacted file)` for each file, sorted by path."""
        for file in sorted(self._files, key=lambda file: file.path):
            yield file.path, self._spooled(file.path)

    def _add_folder(self, listing: Listing) -> set[str]:
        """Add the files of one folder of the run; return the paths of its subfolders that are left out (workspaces)."""
        left_out = set()
        for name in listing.folders:
            path = listing.path_of(name)
            self._names[path] = self._name(self._names[listing.folder], name)
            if name == _WORKSPACE and path.startswith(_OF_TRIALS) and not self._with_workspaces:
                left_out.add(path)
                files, size = _size_of(self._run.path / path)
                self._left_out.append(LeftOut(path=self._names[path], reason="workspace", files=files, bytes=size))
        for name in listing.files:
            self._add_file(listing.path_of(name), self._name(self._names[listing.folder], name))
        for name in (*listing.links, *listing.others):
            reason = "link" if name in listing.links else "special_file"
            self._left_out.append(
                LeftOut(path=self._name(self._names[listing.folder], name), reason=reason, files=1, bytes=0)
            )
        if listing.problem is not None:
            self._left_out.append(LeftOut(path=self._names[listing.folder], reason="unreadable", files=0, bytes=0))
        return left_out

    def _add_file(self, path: str, name: str) -> None:
        size, redacted = 0, RedactedFile(left_out="unreadable")
        try:
            file = open_listed(self._run.path, path)
            if file is not None:
                with file:
                    raw = file.read(MAX_BYTES + 1)
                size = len(raw)
                redacted = RedactedFile(left_out="too_large") if size > MAX_BYTES else self._redactor.content(path, raw)
        except OSError:
            pass
        if redacted.left_out is not None:
            self._left_out.append(LeftOut(path=name, reason=redacted.left_out, files=1, bytes=size))
            return
        self._masked += redacted.masked
        for suffix, data in redacted.files.items():
            # A table of a database gets a suffix with its name.
            place = name if not suffix else self._free(name + _safe(suffix))
            if _is_too_long(place):
                self._left_out.append(LeftOut(path=place, reason="long_name", files=1, bytes=len(data)))
                continue
            self._put(place, data, is_original=data == raw and place == path, masked=redacted.masked)

    def _put(self, place: str, data: bytes, *, is_original: bool, masked: Counter[str]) -> None:
        self._spooled(place).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        counts = {kind: count for kind, count in sorted(masked.items()) if count}
        self._files.append(
            BundleFile(path=place, size=len(data), sha256=sha256, is_original=is_original, masked=counts)
        )

    def _spooled(self, place: str) -> Path:
        # Named by the digest of the path, because a path in the bundle may be longer than a file name may be.
        return self._folder / hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()

    def _mask_digests(self) -> None:
        """Mask the digests in the files of the bundle, except in files below `trials/` and in Parquet tables.

        A masked file keeps no digest of its original content. Otherwise, a reader could guess a masked password, and
        check the guess by the digest. The seal (the digests of the run's files), the signed statements and the evidence
        store are not in the bundle at all.
        """
        # Otherwise a masked password could be guessed, and each guess checked by the digest of the unmasked document.
        files, self._files = self._files, []
        for file in files:
            if file.path in _DIGESTS_BESIDE or file.path.startswith(f"{STORE}/"):
                self._left_out.append(LeftOut(path=file.path, reason="digests_of_masked", files=1, bytes=file.size))
                self._spooled(file.path).unlink()
                continue
            if file.path.startswith(_OF_TRIALS) or file.path.endswith(".parquet"):
                self._files.append(file)
                continue
            data, count = _DIGEST.subn(MASK.encode(), self._spooled(file.path).read_bytes())
            if not count:
                self._files.append(file)
                continue
            self._masked["digest"] += count
            self._put(file.path, data, is_original=False, masked=Counter({**file.masked, "digest": count}))

    def _name(self, folder: str, name: str) -> str:
        """Return the path that a file or folder gets in the bundle (archive), relative to the bundle's folder `run/`.

        Credentials in the path are masked, and the path is unique and valid on every system.

        Args:
            folder: the path that the parent folder has in the bundle; empty if the parent is the folder of the run.
            name: the name of the file or folder in the run.
        """
        cleaned, count = self._redactor.name(name)
        self._masked += Counter({"file_name": count})
        return self._free(f"{folder}/{_safe(cleaned)}" if folder else _safe(cleaned))

    def _free(self, path: str) -> str:
        place, number = path, 1
        while place.casefold() in self._taken:
            number += 1
            place = f"{path}~{number}"
        self._taken.add(place.casefold())
        return place


def _safe(name: str) -> str:
    """Return a file name that every operating system and `lab open` accept.

    Each other character is replaced by `%` and its code in hexadecimal.
    """
    marked = _UNSAFE.sub(lambda match: f"%{ord(match.group()):02X}", name)
    return "".join(letter if letter.isprintable() else f"%{ord(letter):02X}" for letter in marked)


def _is_too_long(path: str) -> bool:
    """Return whether a file with this path could not be unpacked, because the path or a name in it is too long."""
    return len((RUN + path).encode()) > MAX_NAME or any(
        len(part.encode()) > _MAX_PART_BYTES for part in path.split("/")
    )


def _write_zip(path: Path, manifest: bytes, envelope: bytes | None, files: Iterator[tuple[str, Path]]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(_entry(MANIFEST_ENTRY), manifest, compresslevel=6)
        if envelope is not None:
            archive.writestr(_entry(ENVELOPE_ENTRY), envelope, compresslevel=6)
        for name, source in files:
            archive.writestr(_entry(RUN + name), source.read_bytes(), compresslevel=6)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _FIXED_TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = 0o100644 << 16
    return entry


def _size_of(folder: Path) -> tuple[int, int]:
    count = sum(len(listing.files) for listing in listings(folder))
    return count, size_of_copy(folder)[0]
