"""Verify a run: its seal, the signed statements about it, and its records against each other."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final

from relab import __version__
from relab.core.errors import RelabError
from relab.experiments.errors import RunNotFoundError
from relab.experiments.proof.damage import Damage, SealCheck
from relab.experiments.proof.envelopes import EnvelopeError, open_envelope
from relab.experiments.proof.keys import PublicKey
from relab.experiments.proof.signers import SignedBy, Trust, signer_of
from relab.experiments.proof.statements import PROVENANCE, TEST_RESULT, results_of
from relab.experiments.records.file_names import (
    ATTESTATION,
    MANIFEST,
    RESOLVED,
    RUN_CONTROL,
    SEAL,
    SEAL_FORMAT,
    STATEMENTS,
)
from relab.experiments.records.journal import NAME as JOURNAL
from relab.experiments.records.journal import read_journal
from relab.experiments.records.journal_lines import Head
from relab.experiments.records.run_folder import RunFolder, is_locked, open_run
from relab.experiments.records.seals import digest_of_file, read_attestation
from relab.experiments.results.grades import TrialTally, grades
from relab.experiments.results.integrity import damage_of_run
from relab.experiments.results.run_metadata import COMPLETED
from relab.experiments.trial.event_chain import NO_EVENTS, hash_chain
from relab.experiments.trial.evidence import REF, STORE

_MAX_PROBLEMS: Final = 1_000


class ProofVerdict(StrEnum):
    """The verdict on a run or a bundle (its archive). `VERIFIED`: unchanged. `DAMAGED`: changed or incomplete.

    `UNTRUSTED`: not signed by the required key. `UNFINISHED`: not ended. `UNSEALED`: no seal (digests of all files).
    """

    VERIFIED = "verified"
    DAMAGED = "damaged"
    UNTRUSTED = "untrusted"
    UNFINISHED = "unfinished"
    UNSEALED = "unsealed"


@dataclass(frozen=True)
class Verification:
    """The verification of a run.

    Attributes:
        run_dir: the folder of the run.
        verdict: VERIFIED only if all files are unchanged since the end of the run, and its records agree.
        state: `completed`, `running`, `paused`, `interrupted`, `budget_reached`, `killed`, `failed` or `unknown`.
        message: one sentence for people.
        signer: the key that signed the statements.
        damage: the differences from the seal (file digests), then the contradictions between records; at most 1,000.
        damage_count: the number of all differences and contradictions.
        files, bytes: the number of files that were read, and their total size in bytes.
    """

    run_dir: Path
    verdict: ProofVerdict
    state: str
    message: str
    signer: SignedBy = field(default_factory=lambda: SignedBy(None, Trust.UNSIGNED))
    damage: tuple[Damage, ...] = ()
    damage_count: int = 0
    files: int = 0
    bytes: int = 0


def verify_run(run_dir: Path, given: PublicKey | None = None, own: PublicKey | None = None) -> Verification:
    """Verify the run in a folder: recompute every digest and check every signature; write nothing.

    Args:
        run_dir: the folder of the run.
        given: the key that must have signed the run; None if any key is accepted.
        own: the key of this installation, to report whether it signed the run. None if the installation has no key.

    Raises:
        RunNotFoundError: the folder is not a run.
    """
    if not any((run_dir / name).exists() for name in (MANIFEST, SEAL)):
        raise RunNotFoundError(
            f"{run_dir} is not the folder of a run: it has no {MANIFEST}.",
            remedy="Give the folder of a run, such as .lab/runs/<run_id>, or a bundle.",
        )
    if is_locked(run_dir):
        message = "A process is working on the run: verify it when the run has ended."
        return Verification(run_dir, ProofVerdict.UNFINISHED, "running", message)
    state = _state(run_dir)
    if not (run_dir / SEAL).exists():
        return _without_seal(run_dir, state)
    return _Check(run_dir, given, own).result(state)


@dataclass
class _Records:
    """The data about a run's trials that a verification has read from the journal and from the files of events.

    Attributes:
        tally: counts over the trials in the journal, such as the number of trials by outcome.
        outcomes: `{trial id: outcome}`.
        chains: `{path of a file of events: (trial folder, last digest of the file's hash chain)}`, from the journal.
        head: the number of lines and the last checksum of the journal; None if it has no checksums.
        problem: a sentence about why the journal cannot be used; None if it can.
        with_events: the paths of the files of events that exist and are unchanged since the run was sealed.
    """

    tally: TrialTally = field(default_factory=TrialTally)
    outcomes: dict[str, str] = field(default_factory=dict)
    chains: dict[str, tuple[str, str]] = field(default_factory=dict)
    head: Head | None = None
    problem: str | None = None
    with_events: set[str] = field(default_factory=set)

    def note(self, entry: Mapping[str, Any], events_place: str) -> None:
        """Add one journal entry (the result of a trial) to the counts, outcomes and hash chains of this object.

        Args:
            entry: the entry, as JSON.
            events_place: the path of the file of events in a trial's folder, such as `/out/harness_events.jsonl`.
        """
        row = entry["row"]
        self.tally.note(entry)
        self.outcomes[row["trial_id"]] = row["outcome"]
        if "head" in entry:
            self.chains[row["trial_dir"] + events_place] = row["trial_dir"], entry["head"]

    def note_head(self, head: Head) -> None:
        """Store the head of the journal (its number of lines and last checksum)."""
        self.head = head


class _Check:
    """Verifies a run that has a seal: a file with the digests of the run's files."""

    def __init__(self, run_dir: Path, given: PublicKey | None, own: PublicKey | None) -> None:
        self._root = run_dir
        self._given, self._own = given, own
        self._key: PublicKey | None = None
        self._refs: dict[str, str] = {}
        self._records = _Records()
        self._events_place = ""
        self._seal = SealCheck(run_dir, self._on_file)

    def result(self, state: str) -> Verification:
        """Return the result of the verification of the run; `state` is the state of the run, such as `completed`."""
        run = self._opened()
        if run is not None:
            self._read_records(run)
        self._seal.run()
        statements = self._statements()
        # A contradiction between files counts as damage only if all files are unchanged.
        if run is not None and not self._seal.count:
            for problem in self._contradictions(run, statements):
                self._seal.note(problem)
        signer = signer_of(self._key, self._given, self._own)
        check, verdict = self._seal, ProofVerdict.VERIFIED
        totals = f"{check.files:,} files, {check.bytes:,} bytes"
        message = f"Every file is as it was when the run was sealed ({totals})."
        if check.count:
            verdict, message = ProofVerdict.DAMAGED, f"{check.count:,} differences; the first: {check.damage[0]}."
        elif self._given is not None and signer.trust is not Trust.GIVEN_KEY:
            verdict = ProofVerdict.UNTRUSTED
            message = f"Every file is as it was when the run was sealed, but the given key did not sign it ({totals})."
        elif state != COMPLETED:
            verdict = ProofVerdict.UNFINISHED
            message = (
                f"The run is {state}: it has no final result yet. Every file is as it was when it stopped ({totals})."
            )
        return Verification(
            self._root, verdict, state, message, signer, tuple(check.damage), check.count, check.files, check.bytes
        )

    def _opened(self) -> RunFolder | None:
        """Open and return the run; None if its manifest or configuration is damaged."""
        try:
            return open_run(self._root)
        except RelabError:
            return None  # the comparison with the seal reports the damage

    def _read_records(self, run: RunFolder) -> None:
        """Read the journal; store data about the trials in `_records`, and digests of their documents in `_refs`."""
        self._events_place = f"/{PurePosixPath(run.config.runtime.harness.events.path[1:])}"
        try:
            for entry in read_journal(self._root, self._records.note_head):
                self._records.note(entry, self._events_place)
                record = entry.get("evidence")
                if record is None:
                    continue
                refs, folder = record["evidence"], record["paths"]["trial_dir"]
                for name, path in record["paths"].items():
                    if (ref := refs.get(f"{name}_ref")) is not None:
                        self._refs[path] = ref
                for name, ref in record.get("ext", {}).get("files", {}).items():
                    self._refs[f"{folder}/{name}"] = ref
        except RelabError as error:
            # A damaged journal is found by its fingerprint.
            self._refs.clear()
            self._records.problem = error.message
        except (KeyError, TypeError, AttributeError) as error:
            self._refs.clear()
            self._records.problem = f"it has a line of another form ({type(error).__name__}: {error})"

    def _on_file(self, path: str, sha256: str) -> None:
        ref = self._refs.pop(path, None)
        if ref is not None and ref != REF + sha256:
            self._seal.note(Damage(path, "was changed between the end of its trial and the end of the run"))
        if self._events_place and path.endswith(self._events_place):
            self._records.with_events.add(path)
        folder, _, name = path.rpartition("/")
        if folder == STORE and name != f"{sha256}.json":
            self._seal.note(Damage(path, "has another digest than its name says"))

    def _statements(self) -> list[Mapping[str, Any]]:
        """Verify the signed statements about the run, and return the statements that are valid.

        A statement is valid if its signature and its digests of the seal, attestation and journal match. Each problem
        is noted as a `Damage`.
        """
        path, begin = self._root / STATEMENTS, 0
        found: list[Mapping[str, Any]] = []
        try:
            lines = path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        for number, line in enumerate(lines, start=1):
            end = begin + len(line)
            try:
                found.append(self._statement(line))
            except EnvelopeError as error:
                self._seal.note(Damage(STATEMENTS, str(error), begin, end, number))
            begin = end
        kinds = [statement.get("predicateType") for statement in found]
        if not self._seal.count and kinds != [PROVENANCE, TEST_RESULT]:
            self._seal.note(Damage(STATEMENTS, "does not have the two statements of a run"))
        return found

    def _statement(self, line: bytes) -> Mapping[str, Any]:
        if not line.endswith(b"\n"):
            raise EnvelopeError("has no line end: it was cut")
        envelope = open_envelope(line[:-1])
        if self._key not in (None, envelope.key):
            raise EnvelopeError("is signed by another key than the line before")
        self._key = envelope.key
        # The damage of a changed file is reported already.
        if not self._seal.count:
            self._check_subjects(envelope.statement)
        return envelope.statement

    def _check_subjects(self, statement: Mapping[str, Any]) -> None:
        try:
            subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
        except (KeyError, TypeError) as error:
            raise EnvelopeError("has a statement without subjects") from error
        for name in (SEAL, ATTESTATION, JOURNAL):
            if f"sha256:{subjects.get(name)}" != digest_of_file(self._root / name):
                raise EnvelopeError(f"is about another {name}")

    def _contradictions(self, run: RunFolder, statements: list[Mapping[str, Any]]) -> Iterator[Damage]:
        """Yield a `Damage` for each contradiction between the run's files, journal, attestation and `statements`."""
        for path in self._refs:
            if (self._root / path).parent.is_dir():
                yield Damage(path, "is missing, although the journal names it")
        records = self._records
        try:
            document = read_attestation(self._root)
        except RelabError as error:
            records.problem = records.problem or error.message
        if records.problem is not None:
            yield Damage(JOURNAL, f"cannot be used: {records.problem}")
            return
        yield from self._chains()
        if document is not None:
            yield from self._attestation(run, document, records.tally, records.head)
        for statement in statements:
            if statement.get("predicateType") != TEST_RESULT:
                continue
            expected = results_of(run, {SEAL: "0" * 64}, records.outcomes)["predicate"]
            if statement.get("predicate") != expected:
                yield Damage(STATEMENTS, "has other results than the journal")

    def _chains(self) -> Iterator[Damage]:
        """Yield a `Damage` for each file of events that does not match its hash chain in the journal."""
        for path, (folder, head) in self._records.chains.items():
            # A trial whose file was not read has no events.
            if head == NO_EVENTS and path not in self._records.with_events:
                continue
            if head != hash_chain(self._root / path, below=self._root / folder):
                yield Damage(path, "has another hash chain than the journal names")

    def _attestation(
        self, run: RunFolder, document: Mapping[str, Any], tally: TrialTally, head: Head | None
    ) -> Iterator[Damage]:
        """Yield a `Damage` for each value of the attestation that contradicts the experiment, journal or signature.

        Args:
            run: the run.
            document: the attestation: the digests of the run's records.
            tally: the counts over the trials in the journal, and the hash chains of their events.
            head: the number of lines and the last checksum of the journal; None if it has no checksums.
        """
        ext = document["ext"]
        signed_by = ext.get("signed_by")
        if document.get("resolved_experiment_digest") != run.digest:
            yield Damage(ATTESTATION, f"names another digest than {RESOLVED} has")
        if document.get("events_hashchain") != tally.heads:
            yield Damage(ATTESTATION, "names other hash chains of events than the journal")
        if head is not None and ext.get("journal") != head.to_json():
            yield Damage(ATTESTATION, "names another head of the journal")
        if signed_by != (None if self._key is None else self._key.key_id):
            yield Damage(STATEMENTS, f"is not by the key that {ATTESTATION} names" if self._key else "is missing")
        # Another version may word its notes differently.
        if run.manifest.get("runner_version") == __version__:
            said = grades(run.config, tally, is_complete=bool(ext.get("complete")), is_signed=signed_by is not None)
            if document.get("grades_summary") != said:
                yield Damage(ATTESTATION, "has other grades than the journal gives")


def _without_seal(run_dir: Path, state: str) -> Verification:
    """Return the verification of a run without a seal (the digests of all its files).

    The first rule that applies gives the verdict:

    - DAMAGED: a document differs from its recorded digest.
    - UNFINISHED: the run is not completed.
    - DAMAGED: the manifest says that relab writes a seal for the run, but the seal is missing.
    - UNSEALED: the run was made by an earlier version, which wrote no seals.

    Args:
        run_dir: the folder of the run.
        state: the state of the run, such as `completed`.
    """
    try:
        damage = tuple(Damage(".", f"is damaged: {problem}") for problem in damage_of_run(run_dir)[:_MAX_PROBLEMS])
    except RelabError as error:
        damage = (Damage(".", f"is damaged: {error.message}"),)
    is_promised = _manifest(run_dir).get("ext", {}).get("seal") == SEAL_FORMAT
    if state == COMPLETED and is_promised:
        damage = (
            *damage,
            Damage(
                SEAL,
                f"is missing; if the run was killed at its end, lab run --continue {shlex.quote(str(run_dir))} writes it",
            ),
        )
    if damage:
        message = f"{len(damage):,} differences; the first: {damage[0]}."
        return Verification(run_dir, ProofVerdict.DAMAGED, state, message, damage=damage, damage_count=len(damage))
    if state != COMPLETED:
        command = f"lab run --continue {shlex.quote(str(run_dir))}"
        message = f"The run is {state}, and has no seal yet. Finish it with: {command}"
        return Verification(run_dir, ProofVerdict.UNFINISHED, state, message)
    message = (
        "The run was made by an earlier version and has no seal; the documents with recorded digests are unchanged."
    )
    return Verification(run_dir, ProofVerdict.UNSEALED, state, message)


def _state(run_dir: Path) -> str:
    """Return the state of a run on which no process works: `killed` if `running` is stored, else the stored status."""
    try:
        status = str(json.loads((run_dir / RUN_CONTROL).read_bytes())["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
    return "killed" if status == "running" else status


def _manifest(run_dir: Path) -> dict[str, Any]:
    try:
        document = json.loads((run_dir / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) and isinstance(document.get("ext"), dict) else {}
