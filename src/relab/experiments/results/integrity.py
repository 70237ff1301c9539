"""Check that the files of a run are unchanged before they are used for comparisons and reports.

The journal has its own checksums (`records/journal.py`). The attestation contains the digests of the other files that
belong to the run as a whole; the evidence records in the journal contain the digests of each trial's documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from relab.experiments.errors import RunDamagedError, damaged
from relab.experiments.records.file_names import ATTESTATION, DATASET, DIGEST, MANIFEST, PARENTS, RESOLVED, RUN_CONTROL
from relab.experiments.records.journal import read_journal
from relab.experiments.records.seals import digest_of_file, read_attestation
from relab.experiments.results.aggregates import STOPPING
from relab.experiments.results.result_tables import ANALYSIS, METRICS, TABLES, TRIALS
from relab.experiments.results.run_metadata import COMPLETED, RunFacts, read_facts
from relab.experiments.trial.evidence import REF, STORE, stored_documents
from relab.experiments.workspace.untrusted_files import digest_plain

_READ_BY_COMPARE: Final = frozenset(
    (MANIFEST, RESOLVED, STOPPING, f"{ANALYSIS}/{TABLES}/{TRIALS}.parquet", f"{ANALYSIS}/{TABLES}/{METRICS}.parquet")
)


def digests_of_run(run_dir: Path) -> dict[str, str]:
    """Return `{path below the run: digest}` of the files that describe the run as a whole.

    These are the manifest, the configuration and its digest, the data set, the trials' evidence records and the
    analysis; in a run of forks (trials that begin at a checkpoint of an earlier trial) also the records of the earlier
    trials. The result lacks files that are missing.

    Raises:
        OSError: a file cannot be read.
    """
    names = [MANIFEST, RESOLVED, DIGEST, DATASET, PARENTS]
    for folder in (run_dir / "evidence", run_dir / ANALYSIS, run_dir / ANALYSIS / TABLES):
        names += [str(path.relative_to(run_dir)) for path in sorted(folder.glob("[!.]*")) if path.is_file()]
    found = {name: digest_of_file(run_dir / name) for name in names}
    return {name: digest for name, digest in found.items() if digest is not None}


def check_compared(facts: RunFacts) -> None:
    """Check that the files that a comparison reads are unchanged since the run finished.

    These are the manifest, the configuration, the stopping decisions, and the tables of trials and metrics. Do nothing
    for a run that has not finished, or that an earlier version of relab wrote without digests.

    Raises:
        RunDamagedError: a file was changed, or is missing.
    """
    _check(facts, lambda name: name in _READ_BY_COMPARE)


def check_products(facts: RunFacts) -> bool:
    """Check each file of a finished run against its digest in the attestation; return whether files were checked.

    Return False if the run is not finished, or if an earlier version of relab wrote the run without digests.

    Raises:
        RunDamagedError: a file was changed, or is missing.
    """
    return _check(facts, lambda _: True)


def damage_of_trials(run_dir: Path) -> Iterator[str]:
    """Yield a sentence for each changed or missing document of a run's trials or of the run's evidence store.

    The evidence store is the folder in which each document has its digest as its name.

    Raises:
        RunDamagedError: the journal is damaged.
    """
    stored: set[str] = set()
    for entry in read_journal(run_dir):
        record = entry.get("evidence")
        if record is not None:
            stored |= stored_documents(record)
            yield from damage_of_trial(run_dir, entry)
    # Objects that no trial names, such as those of a trial that was interrupted, must be unchanged, too.
    stored |= {path.stem for path in (run_dir / STORE).glob("*.json")}
    yield from _differing(run_dir, ((run_dir / STORE / f"{name}.json", REF + name) for name in sorted(stored)))


def damage_of_trial(run_dir: Path, entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each changed or missing document of a trial; `entry` is its journal entry."""
    record = entry.get("evidence")
    if record is not None:
        refs, paths = record["evidence"], record["paths"]
        folder, own = run_dir / paths["trial_dir"], record.get("ext", {}).get("files", {})
        yield from _differing(run_dir, ((run_dir / path, refs.get(f"{name}_ref")) for name, path in paths.items()))
        yield from _differing(run_dir, ((folder / name, ref) for name, ref in own.items()))


def _differing(run_dir: Path, files: Iterable[tuple[Path, str | None]]) -> Iterator[str]:
    for path, ref in files:
        if ref is None:
            continue
        digest = digest_plain(path, below=run_dir)
        if digest is None:
            yield f"{path} is missing"
        elif REF + digest != ref:
            yield f"{path} was changed after it was written"


def _check(facts: RunFacts, is_wanted: Callable[[str], bool]) -> bool:
    files = _attested_files(facts)
    if files is None:
        return False
    for name in filter(is_wanted, files):
        path = facts.run_dir / name
        try:
            digest = digest_of_file(path)
        except OSError as error:
            raise damaged(path, f"cannot be read: {error.strerror}") from error
        if digest is None:
            raise damaged(path, f"is missing; {ATTESTATION} names it")
        if digest != files[name]:
            raise damaged(path, f"was changed after it was written: {ATTESTATION} names another digest")
    return True


def _attested_files(facts: RunFacts) -> Mapping[str, str] | None:
    """Return `{path: digest}` of the files of a finished run, as its attestation records them.

    Return None if the run is incomplete, or if an earlier version of relab wrote the run without digests.

    Raises:
        RunDamagedError: the status of the run and the attestation contradict each other, or one of the two is missing
            although the run has finished.
    """
    if facts.status not in (COMPLETED, None):
        return None
    document = read_attestation(facts.run_dir)
    if facts.status is None:
        # Otherwise a run without a status would count as a run that has not begun, whose files are not checked.
        if document is not None and document["ext"].get("complete"):
            raise damaged(
                facts.run_dir / RUN_CONTROL, f"is missing, although {ATTESTATION} says that the run is complete"
            )
        return None
    if document is None:
        if "journal" in facts.manifest.get("ext", {}):
            raise damaged(facts.run_dir / ATTESTATION, "is missing, although the status of the run is completed")
        return None
    if document["ext"].get("complete") is False:
        raise damaged(
            facts.run_dir / RUN_CONTROL,
            f"has the status {COMPLETED!r}, but {ATTESTATION} says that the run is not complete",
        )
    found: Mapping[str, str] | None = document["ext"].get("files")
    return found


def damage_of_run(run_dir: Path) -> list[str]:
    """Check all files of a run and its trials; return a sentence for each damage found."""
    found: list[str] = []
    try:
        check_products(read_facts(run_dir))
    except RunDamagedError as error:
        found.append(error.message)
    try:
        found.extend(damage_of_trials(run_dir))
    except RunDamagedError as error:
        found.append(error.message)
    return list(dict.fromkeys(found))
