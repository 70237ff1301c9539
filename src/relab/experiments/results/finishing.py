"""Write a run's final files from its journal: tables, analysis, report, evidence and attestation.

A run that is continued writes its final files again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from relab.core.atomic_files import replace_file, replacing
from relab.experiments.plan.resolve import plan_of
from relab.experiments.records.file_names import ATTESTATION
from relab.experiments.records.forks import compared_rows
from relab.experiments.records.journal import journal_head, read_journal
from relab.experiments.records.run_folder import RunFolder
from relab.experiments.results.aggregates import STOPPING
from relab.experiments.results.analysis import analyze_run
from relab.experiments.results.grades import TrialTally
from relab.experiments.results.integrity import digests_of_run
from relab.experiments.results.provenance import attestation
from relab.experiments.results.result_tables import document_bytes, one_duckdb, write_tables
from relab.experiments.results.stopping import StoppingMonitor
from relab.experiments.trial.wire import write_json


def finish_run(run: RunFolder, *, is_complete: bool, signed_by: str | None = None) -> None:
    """Write the final files of a run from its journal, replacing older files.

    The final files are the tables, the analysis, the report, the evidence records, and the attestation (digests of
    the run's files).

    Args:
        run: the run; some of its trials have ended.
        is_complete: whether no trial is left to run.
        signed_by: the id of the key that will sign the run; None if the run will not be signed.

    Raises:
        RunDamagedError: the journal is damaged.
        OSError: a file cannot be written, for example on a full disk.
    """
    from relab.experiments.results.report import write_report  # noqa: PLC0415 loads what draws charts

    with one_duckdb(run.path):
        # The parents of forks are in the tables as the baseline, so that everything that compares variants compares them.
        write_tables(run.path, chain(compared_rows(run), (entry["row"] for entry in read_journal(run.path))))
        _write_stopping(run, is_complete=is_complete)
        analyze_run(run.path)
        write_report(run.path, is_ending=is_complete)
    _write_evidence(run.path)
    tally = TrialTally()
    for entry in read_journal(run.path):
        tally.note(entry)
    document = attestation(
        run,
        tally,
        head=journal_head(run.path),
        files=digests_of_run(run.path),
        is_complete=is_complete,
        signed_by=signed_by,
    )
    # Durable, so that a power failure leaves the old or the new attestation, which readers check files against.
    with replacing(run.path / ATTESTATION, durable=True) as fresh:
        write_json(fresh, document)


def _write_stopping(run: RunFolder, *, is_complete: bool) -> None:
    if run.config.design.policies.stopping is None:
        return
    monitor = StoppingMonitor(run.config, plan_of(run.config, len(run.tasks())).order)
    for entry in read_journal(run.path):
        monitor.note(entry["row"])
    replace_file(run.path / STOPPING, document_bytes(monitor.to_json(is_complete=is_complete)))


def _write_evidence(run_dir: Path) -> None:
    folder = run_dir / "evidence"
    folder.mkdir(exist_ok=True)
    _write_lines(folder / "evidence_records.jsonl", (entry.get("evidence") for entry in read_journal(run_dir)))
    _write_lines(folder / "task_chain_states.jsonl", _chains(run_dir))


def _chains(run_dir: Path) -> Iterator[Mapping[str, Any] | None]:
    """Yield each trial's document `task_chain_state_v1`, in the order of the journal; None for a trial without one.

    In a chain, each trial continues from the state of the previous trial. This function adds two values to the document
    from the journal:

    - `step_index`: the position of the trial in its chain, from 0.
    - `chain_root_ref`: a reference to the state in which the chain began. All trials of a chain have the same value.
    """
    roots: dict[str, tuple[str, int]] = {}
    for entry in read_journal(run_dir):
        state = entry.get("chain")
        if state is not None and state["task_model"] == "dependent":
            # The trials of a chain end in the order of the chain, so the journal has the same order.
            root, index = roots.get(state["chain_id"], (state["snapshots"]["chain_root_ref"], 0))
            roots[state["chain_id"]] = root, index + 1
            state["snapshots"]["chain_root_ref"] = root
            state["step_index"] = index
        yield state


def _write_lines(path: Path, documents: Iterator[Mapping[str, Any] | None]) -> None:
    with replacing(path) as fresh, fresh.open("w", encoding="utf-8") as file:
        for document in documents:
            if document is not None:
                file.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
