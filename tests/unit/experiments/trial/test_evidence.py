"""Evidence of a trial: documents stored by digest, and a hash chain over the events that shows any change."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from relab.experiments.config.state_policy import StatePolicy
from relab.experiments.models import TrialOutcome, TrialRow
from relab.experiments.trial import event_chain
from relab.experiments.trial.event_chain import EventChain, hash_chain
from relab.experiments.trial.evidence import STORE, EvidenceStore
from relab.experiments.trial.trial_folder import TrialFolder
from relab.experiments.workspace.manifests import FileEntry, FileManifest, compare
from support.experiments.configs import IDS

EMPTY = "sha256:" + hashlib.sha256(b"").hexdigest()
ROW = TrialRow(
    **IDS._asdict(),
    baseline_id="control",
    workload_type="agent_harness",
    task_index=0,
    outcome=TrialOutcome.SUCCESS,
    success=True,
    ended_at="2026-01-01T00:00:01Z",
    status_code="0",
    attempts=1,
    integration_level="cli_events",
    sandbox="local",
    container_mode=False,
    network_mode_requested="none",
    trial_dir="trials/trial_1",
)


def manifest(**files: str) -> FileManifest:
    return FileManifest({name: FileEntry(name, f"sha256:{text}", len(text), 0o644) for name, text in files.items()})


def chained(*lines: bytes) -> str:
    head = EMPTY
    for line in lines:
        head = "sha256:" + hashlib.sha256(head.encode() + line).hexdigest()
    return head


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b"", []),
        (b"a\n", [b"a"]),
        (b"a\nbb\n", [b"a", b"bb"]),
        (b"a\nbb", [b"a", b"bb"]),
        (b"\n\n", [b"", b""]),
        (b"a\r\n", [b"a\r"]),
        (b"x" * 25 + b"\n" + b"y" * 10, [b"x" * 25, b"y" * 10]),
        (b"x" * 10 + b"\ny\n", [b"x" * 10, b"y"]),
    ],
)
def test_each_link_covers_all_lines_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, lines: list[bytes]
) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(raw)

    assert hash_chain(path, below=path.parent) == chained(*lines)
    # Long lines are read in pieces; the chain must not depend on the piece size.
    monkeypatch.setattr(event_chain, "_PIECE", 10)
    assert hash_chain(path, below=path.parent) == chained(*lines)


def test_swapped_joined_or_missing_events_change_the_chain(tmp_path: Path) -> None:
    heads = set()
    for number, raw in enumerate([b"a\nb\n", b"b\na\n", b"ab\n", b"a\nb\nb\n", b"a\n"]):
        path = tmp_path / f"events-{number}.jsonl"
        path.write_bytes(raw)
        heads.add(hash_chain(path, below=path.parent))

    assert len(heads) == 5


@pytest.mark.parametrize("kind", ["nothing", "link", "pipe", "folder"])
def test_path_that_is_not_a_file_has_an_empty_chain(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "events.jsonl"
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()

    assert hash_chain(path, below=path.parent) == EMPTY


def test_documents_are_stored_by_their_digest_once(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path)
    folder = TrialFolder(tmp_path / "trials" / "trial_1")
    before, after = manifest(a="1", b="2"), manifest(a="1", b="3", c="4")
    found = store.write(folder, before, after, compare(before, after), "2026-01-01T00:00:00Z", tmp_path / "none")
    same = store.write(folder, before, before, compare(before, before), "2026-01-01T00:00:09Z", tmp_path / "none")

    for path in (tmp_path / STORE).iterdir():
        assert path.name == f"{hashlib.sha256(path.read_bytes()).hexdigest()}.json"
    assert same.before == same.after == found.before
    assert json.loads((tmp_path / STORE / f"{found.diff}.json").read_text())["summary"] == {
        "added": 1,
        "removed": 0,
        "modified": 1,
    }
    assert json.loads((tmp_path / STORE / f"{same.diff}.json").read_text())["summary"]["added"] == 0
    schemas = {json.loads(path.read_text())["schema_version"] for path in (tmp_path / STORE).iterdir()}
    assert schemas == {"workspace_snapshot_v1", "workspace_diff_v1", "workspace_patch_v1"}


def test_record_lists_existing_files_and_follows_no_link(tmp_path: Path) -> None:
    folder = TrialFolder(tmp_path / "trials" / "trial_1")
    folder.root.mkdir(parents=True)
    (folder.root / "trial_input.json").write_text("{}")
    folder.stdout.write_text("hello")
    folder.stderr.symlink_to("/etc/hostname")
    found = EvidenceStore(tmp_path).write(
        folder, manifest(a="1"), manifest(a="1"), compare(manifest(), manifest()), "now", tmp_path / "none"
    )
    record = found.record(ROW, "control/task_1/0", StatePolicy.ISOLATE_PER_TRIAL)

    assert record["evidence"]["stdout_ref"] == f"artifact://sha256/{hashlib.sha256(b'hello').hexdigest()}"
    assert "stderr_ref" not in record["evidence"]
    assert "trial_output_ref" not in record["evidence"]
    assert record["ids"] == IDS.to_json()
    assert record["policy"]["task_model"] == "independent"
    assert record["runtime"]["executor"] == "local_process"
    for place in ("workspace_pre_snapshot", "workspace_post_snapshot", "diff_incremental", "patch_incremental"):
        assert (tmp_path / record["paths"][place]).is_file()
    chain = found.chain(replace(ROW, sandbox="container"), "control", StatePolicy.ACCUMULATE)
    assert chain["task_model"] == "dependent"
    assert chain["run_id"] == "run_1"
    assert "run_id" not in chain["ids"]


def test_incremental_chain_detects_a_change_of_earlier_events(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    chain = EventChain(path, tmp_path)
    chain.advance()
    for piece in (b"one\ntw", b"o\n", b"", b"three"):
        with path.open("ab") as file:
            file.write(piece)
        chain.advance()
    assert not chain.was_rewritten()
    with path.open("ab") as file:
        file.write(b" and more\nfour\n")
    assert not chain.was_rewritten(), "what was added later was not read"

    path.write_bytes(path.read_bytes().replace(b"two", b"tow"))

    assert chain.was_rewritten()
    path.unlink()
    assert chain.was_rewritten()
