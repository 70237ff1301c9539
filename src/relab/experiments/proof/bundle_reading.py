"""Read bundles, which are not trusted: verify their content, and unpack them.

An archive can name files outside of the target folder, name one file twice, hold links, or expand to terabytes.
So the names and the sizes of all entries are checked before any entry is read. If an entry is longer than the archive
states, the rest is not read.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from relab.core.errors import MalformedBodyError
from relab.core.json import parse_json
from relab.experiments.proof.bundle_format import (
    ENVELOPE_ENTRY,
    MANIFEST_ENTRY,
    MAX_NAME,
    PREDICATE,
    RUN,
    BundleFile,
    BundleManifest,
)
from relab.experiments.proof.damage import MAX_SHOWN, Damage
from relab.experiments.proof.envelopes import Envelope, EnvelopeError, open_envelope
from relab.experiments.proof.errors import BundleDamagedError, BundleInvalidError, BundleNotFoundError
from relab.experiments.proof.keys import PublicKey
from relab.experiments.proof.seal import SealDamagedError, read_seal
from relab.experiments.proof.signers import SignedBy, Trust, signer_of
from relab.experiments.proof.verification import ProofVerdict
from relab.experiments.records.file_names import SEAL, STATEMENTS
from relab.experiments.workspace.untrusted_trees import remove_tree

MAX_BUNDLE_BYTES: Final = 8 * 1_073_741_824
"""The largest size of an unpacked bundle by default."""
_MAX_ENTRIES: Final = 5_000_000
_MAX_DOCUMENT: Final = 256 * 1_048_576
_LOCAL_HEADER: Final = 30
_PIECE: Final = 1_048_576
_RESERVE: Final = 64 * 1_048_576
_REPORT: Final = "analysis/report.html"


@dataclass(frozen=True)
class BundleVerification:
    """The verification of a bundle (a redacted archive of a run).

    Attributes:
        bundle: the file.
        verdict: VERIFIED; DAMAGED; or UNTRUSTED if the bundle is unchanged, but not signed by the key that the
            caller gave.
        message: one sentence for people.
        relation: one or two sentences for people: which run the bundle was made from, and how many files of the
            bundle are proven to be unchanged.
        signer: the key that signed the bundle.
        manifest: the manifest of the bundle.
        damage: the differences from the manifest, and an invalid signature or proof; at most 1,000 items.
        damage_count: the number of all such items, also of those beyond 1,000.
    """

    bundle: Path
    verdict: ProofVerdict
    message: str
    relation: str
    signer: SignedBy
    manifest: BundleManifest | None = None
    damage: tuple[Damage, ...] = ()
    damage_count: int = 0


@dataclass(frozen=True)
class OpenedBundle:
    """A bundle (a redacted archive of a run) that was unpacked.

    Attributes:
        folder: the new folder with the files of the bundle.
        report: the HTML report in the folder; None if the bundle has none.
        verification: the result of the verification.
    """

    folder: Path
    report: Path | None
    verification: BundleVerification


def verify_bundle(path: Path, given: PublicKey | None = None, own: PublicKey | None = None) -> BundleVerification:
    """Verify each file of a bundle against the manifest, and the manifest against its signature; write nothing.

    Args:
        path: the bundle (a redacted archive of a run).
        given: the key that must have signed the bundle; None to accept any key.
        own: the key of this installation, so that the result can say whether it signed the bundle; None if it has none.

    Raises:
        BundleNotFoundError: there is no such file.
        BundleInvalidError: the file is not a bundle, or an entry is unsafe.
    """
    with _opened(path, MAX_BUNDLE_BYTES) as archive:
        return _Reading(path, archive, given, own).verification()


def unpack_bundle(
    path: Path,
    target: Path,
    given: PublicKey | None = None,
    own: PublicKey | None = None,
    *,
    max_bytes: int = MAX_BUNDLE_BYTES,
) -> OpenedBundle:
    """Verify a bundle and unpack it into a new folder; an error leaves no new folder behind.

    Args:
        path: the bundle (a redacted archive of a run).
        target: the folder, which must not exist.
        given: the key that must have signed the bundle; None to accept any key.
        own: the key of this installation, so that the result can say whether it signed the bundle; None if it has none.
        max_bytes: the largest total size of the unpacked files.

    Raises:
        BundleNotFoundError: there is no such file.
        BundleInvalidError: the file is not a bundle, an entry is unsafe, the bundle is larger than `max_bytes`, the
            target exists, or the disk has too little space.
        BundleDamagedError: an entry differs from the manifest, or the bundle is not signed by the key `given`.
        OSError: the files cannot be written.
    """
    if target.exists() or target.is_symlink():
        raise BundleInvalidError(f"{target} exists already.", remedy="Give another --to, or delete it.")
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    with _opened(path, max_bytes) as archive:
        reading = _Reading(path, archive, given, own)
        total = sum(entry.file_size for entry in archive.infolist())
        target.parent.mkdir(parents=True, exist_ok=True)
        if total + _RESERVE > shutil.disk_usage(target.parent).free:
            raise BundleInvalidError(f"The bundle unpacks to {total:,} bytes, more than {target.parent} has room for.")
        try:
            fresh.mkdir(mode=0o700)
            found = reading.verification(fresh)
            if found.verdict is not ProofVerdict.VERIFIED:
                raise BundleDamagedError(f"{path} is {found.verdict.value}: {found.message}")
            fresh.rename(target)
        finally:
            remove_tree(fresh)
    report = target / _REPORT
    return OpenedBundle(target, report if report.is_file() else None, found)


@contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[zipfile.ZipFile]:
    """Open a bundle (an archive of a run) as a zip archive, after a check of the names and sizes of all its entries.

    The unpacked files may have at most `max_bytes` in total.

    Raises:
        BundleNotFoundError: there is no such file.
        BundleInvalidError: the file is not a zip archive, is too large, or an entry is unsafe.
    """
    # A read of a named pipe waits for a writer.
    if path.exists() and not path.is_file():
        raise BundleInvalidError(f"{path} is not a bundle: it is not a regular file.")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive, max_bytes)
            yield archive
    except FileNotFoundError as error:
        raise BundleNotFoundError(f"There is no file {path}.") from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, UnicodeDecodeError, EOFError) as error:
        raise BundleInvalidError(f"{path} is not a bundle: {error}.") from error


def _check_entries(archive: zipfile.ZipFile, max_bytes: int) -> None:
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES or archive.comment:
        raise BundleInvalidError("The archive is not a bundle: it has a comment or too many entries.")
    seen: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        problem = _problem_of(entry)
        if problem is None and entry.filename.casefold() in seen:
            problem = "is there twice"
        folders.update(
            "/".join(entry.filename.casefold().split("/")[:depth]) for depth in range(1, entry.filename.count("/") + 1)
        )
        if problem is not None:
            raise BundleInvalidError(f"The entry {entry.filename!r} {problem}; nothing was unpacked.")
        seen.add(entry.filename.casefold())
    if seen & folders:
        raise BundleInvalidError(f"The entry {min(seen & folders)!r} is a file and a folder; nothing was unpacked.")
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        raise BundleInvalidError(
            f"The bundle unpacks to {total:,} bytes; the limit is {max_bytes:,}.",
            remedy="If you trust it, give a higher --max-gb.",
        )
    # Entries that share compressed data would inflate it once for each of them.
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise BundleInvalidError(f"The entry {entry.filename!r} overlaps another one; nothing was unpacked.")
        end = entry.header_offset + _LOCAL_HEADER + len(entry.filename.encode()) + entry.compress_size


def _problem_of(entry: zipfile.ZipInfo) -> str | None:
    """Return why an entry of an archive is unsafe; None if the entry is safe."""
    name = entry.filename
    parts = name.split("/")
    # `orig_filename` differs if the name had a NUL character, at which the library cuts it.
    is_plain = name == entry.orig_filename and len(name) <= MAX_NAME and name.isprintable()
    if not is_plain or set(name) & {"\\", ":"} or any(part in {"", ".", ".."} for part in parts):
        return "has an unsafe name"
    if name not in {MANIFEST_ENTRY, ENVELOPE_ENTRY} and not name.startswith(RUN):
        return "does not belong in a bundle"
    if stat.S_IFMT(entry.external_attr >> 16) not in {0, stat.S_IFREG}:
        return "is not a regular file"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        return "is compressed in another way than a bundle's"
    return None


class _Reading:
    """Verifies one bundle (a zip file of a run's files with a manifest). On request, it also unpacks the bundle."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, given: PublicKey | None, own: PublicKey | None) -> None:
        self._path = path
        self._archive = archive
        self._given, self._own = given, own
        self._damage: list[Damage] = []
        self._count = 0

    def verification(self, into: Path | None = None) -> BundleVerification:
        """Verify the bundle (an archive of a run); also write the run's files below `into` unless it is None.

        Raises:
            BundleInvalidError: the manifest is missing or cannot be read, or names a file twice.
        """
        raw = self._document(MANIFEST_ENTRY)
        try:
            manifest = BundleManifest.model_validate(parse_json(raw))
        except (MalformedBodyError, ValidationError) as error:
            raise BundleInvalidError(f"{self._path} is not a bundle: its {MANIFEST_ENTRY} cannot be read.") from error
        key = self._signer(hashlib.sha256(raw).hexdigest())
        signer = signer_of(key, self._given, self._own)
        if len({file.path for file in manifest.files}) != len(manifest.files):
            raise BundleInvalidError(f"{self._path} is not a bundle: its {MANIFEST_ENTRY} names a file twice.")
        names = {entry.filename for entry in self._archive.infolist()}
        for file in manifest.files:
            if RUN + file.path in names:
                self._file(file, into)
            else:
                self._note(Damage(file.path, "is missing"))
        for name in sorted(names - {MANIFEST_ENTRY, ENVELOPE_ENTRY} - {RUN + file.path for file in manifest.files}):
            self._note(Damage(name, f"is not in {MANIFEST_ENTRY}"))
        relation = self._relation(manifest) if not self._count else "Nothing is proven of the run."
        verdict, message = (
            ProofVerdict.VERIFIED,
            f"All {len(manifest.files):,} files are as the bundle's manifest says.",
        )
        if self._count:
            verdict, message = ProofVerdict.DAMAGED, f"{self._count:,} differences; the first: {self._damage[0]}."
        elif self._given is not None and signer.trust is not Trust.GIVEN_KEY:
            verdict, message = ProofVerdict.UNTRUSTED, f"{message} But the given key did not sign it."
        return BundleVerification(
            self._path, verdict, message, relation, signer, manifest, tuple(self._damage), self._count
        )

    def _note(self, damage: Damage) -> None:
        self._count += 1
        if len(self._damage) < MAX_SHOWN:
            self._damage.append(damage)

    def _document(self, name: str) -> bytes:
        try:
            if self._archive.getinfo(name).file_size > _MAX_DOCUMENT:
                raise BundleInvalidError(f"{name} is larger than a bundle's.")
            return self._archive.read(name)
        except (KeyError, zlib.error, zipfile.BadZipFile) as error:
            raise BundleInvalidError(f"{self._path} is not a bundle: it has no readable {name}.") from error

    def _signer(self, sha256: str) -> PublicKey | None:
        """Return the key that signed the envelope; None if there is no envelope, or it is damaged.

        A damaged envelope, or one about a manifest with another SHA-256 than `sha256`, is added to the damage.
        """
        if ENVELOPE_ENTRY not in self._archive.namelist():
            return None
        try:
            envelope = open_envelope(self._document(ENVELOPE_ENTRY))
        except EnvelopeError as error:
            self._note(Damage(ENVELOPE_ENTRY, str(error)))
            return None
        if envelope.statement.get("predicateType") != PREDICATE or _subject(envelope, MANIFEST_ENTRY) != sha256:
            self._note(Damage(ENVELOPE_ENTRY, f"is about another {MANIFEST_ENTRY}"))
        return envelope.key

    def _file(self, file: BundleFile, into: Path | None) -> None:
        entry = self._archive.getinfo(RUN + file.path)
        if entry.file_size != file.size:
            self._note(Damage(file.path, f"has {entry.file_size:,} bytes instead of {file.size:,}"))
            return
        whole = hashlib.sha256()
        try:
            for piece in self._pieces(entry, None if into is None else into / file.path):
                whole.update(piece)
        except (zlib.error, zipfile.BadZipFile, EOFError):
            self._note(Damage(file.path, "cannot be unpacked"))
            return
        if whole.hexdigest() != file.sha256:
            self._note(Damage(file.path, "has another digest than the manifest says"))

    def _pieces(self, entry: zipfile.ZipInfo, target: Path | None) -> Iterator[bytes]:
        """Yield the decompressed content of an entry in pieces, not more than the archive states as its size.

        If `target` is not None, the pieces are also written to a new file at this path.
        """
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
        with self._archive.open(entry) as source:
            if target is None:
                while piece := source.read(_PIECE):
                    yield piece
                return
            with target.open("xb") as file:
                while piece := source.read(_PIECE):
                    file.write(piece)
                    yield piece

    def _relation(self, manifest: BundleManifest) -> str:
        """Return one or two sentences: which run the bundle (a redacted archive) was made from, and what is proven.

        They say how many files of the bundle are proven to be unchanged files of this run, or that there is no proof.
        An invalid proof is added to the damage.
        """
        original = manifest.original
        said = f"It was made from {manifest.run_id}, which was {original.verdict} ({original.state})"
        if not original.is_proven:
            return f"{said}. Only the signer of the bundle vouches that its files are files of the run."
        try:
            key, count = self._proven(manifest)
        except (EnvelopeError, SealDamagedError, KeyError, TypeError, ValueError) as error:
            self._note(Damage(SEAL, f"does not prove the files of the bundle: {error}"))
            return "Nothing is proven of the run."
        return f"{said}. The run's seal, signed by {key.key_id}, proves {count:,} of its files to be files of the run."

    def _proven(self, manifest: BundleManifest) -> tuple[PublicKey, int]:
        """Check files of the bundle against the run's seal, and the seal against its signature.

        The seal has the digests of the run's files. Files that were changed for the publication are not checked.

        Returns:
            The key that signed the run, and the number of files that the seal proves.

        Raises:
            EnvelopeError, SealDamagedError, KeyError, TypeError, ValueError: a check failed.
        """
        lines = self._document(RUN + STATEMENTS).splitlines()
        envelope = open_envelope(lines[0])
        digests = {file.path: file.sha256 for file in manifest.files if file.is_original}
        if _subject(envelope, SEAL) != digests[SEAL] or envelope.key.key_id != manifest.original.signed_by:
            raise EnvelopeError("the signed statement is about another run")
        count = 0
        with self._archive.open(RUN + SEAL) as source, closing(read_seal(source)) as folders:
            for sealed in folders:
                for name, found in sealed.fingerprints.items():
                    sha256 = digests.pop(sealed.listing.path_of(name), None)
                    if sha256 is not None and (found is None or found.sha256 != sha256):
                        raise EnvelopeError(f"{name} has another digest in the seal")
                    count += sha256 is not None
        unsealed = digests.keys() - {SEAL, STATEMENTS}
        if unsealed:
            raise EnvelopeError(f"{min(unsealed)} is not in the seal")
        return envelope.key, count


def _subject(envelope: Envelope, name: str) -> str | None:
    """Return the SHA-256 of the file `name` in a signed statement; None if the statement does not name the file."""
    try:
        return next(
            (str(each["digest"]["sha256"]) for each in envelope.statement["subject"] if each["name"] == name), None
        )
    except (KeyError, TypeError, AttributeError):
        return None
