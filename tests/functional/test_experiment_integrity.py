"""Changes of a run's files: each command that reads a changed file names it, and no result changes silently."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relab.core.clock import SystemClock
from relab.core.errors import RelabError
from relab.experiments.results.compare import compare
from relab.experiments.results.integrity import check_compared
from relab.experiments.results.run_metadata import read_facts
from relab.experiments.service import ExperimentService, show_run
from support.experiments.projects import Project, Run, answering

Change = Callable[[bytes], bytes]
MUTABLE = "runtime/run_control.json"
"""A document that is written repeatedly: it has no digest, but its status is checked."""
NOT_ATTESTED = {MUTABLE, "runtime/sessions.jsonl"}
"""Documents written after the attestation, so that only the seal has their digests; see `test_experiment_verify.py`."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project.make(tmp_path_factory.mktemp("integrity"), tasks=5)
    made.write_harness(answering())
    made.configure(command=["sh", "./harness"], variant_plan=[{"variant_id": "other", "bindings": {}}])
    return made


@pytest.fixture(scope="module")
def run(project: Project) -> Run:
    return project.run()


@contextmanager
def changed(path: Path, change: Change) -> Iterator[bytes]:
    """Change a file during the block; a change to an empty content deletes it."""
    before = path.read_bytes()
    # Most documents have several hard links, and a write in place would change all of them.
    path.unlink()
    after = change(before)
    if after:
        path.write_bytes(after)
    try:
        yield after
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(before)


def read(run: Run, project: Project) -> dict[str, Any]:
    """Return the results or the errors of the commands that read a run, by command."""
    service = ExperimentService(SystemClock(), environment={})

    def compared() -> Any:
        check_compared(read_facts(run.path))
        return compare(run.path, measure_false_passes=False).to_json()

    readers: dict[str, Callable[[], Any]] = {
        "compare": compared,
        "show": lambda: show_run(project.root, run.path),
        "continue": lambda: service.runs.extent(run.path),
    }
    found = {}
    for name, reader in readers.items():
        try:
            found[name] = reader()
        except RelabError as error:
            found[name] = error
    silent = {name: error for name, error in found.items() if isinstance(error, RelabError) and not error.remedy}
    assert not silent, "an error says what to do"
    return found


OF_THE_PROOF = {"seal.jsonl", "attestation.intoto.jsonl"}
"""Documents that only `lab verify` reads; see `test_experiment_verify.py`."""


def documents(run: Run) -> list[Path]:
    found = [
        path
        for path in run.path.rglob("*")
        if path.is_file()
        and path.suffix in {".json", ".jsonl", ".parquet", ".digest"}
        and path.name not in OF_THE_PROOF
    ]
    return sorted(path for path in found if not {"workspace", "out", "state"} & set(path.relative_to(run.path).parts))


def flipped(position: float, bit: int) -> Change:
    def change(raw: bytes) -> bytes:
        if not raw:
            return raw
        at = min(int(position * len(raw)), len(raw) - 1)
        return raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]

    return change


def without_line(position: float) -> Change:
    def change(raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True)
        return b"".join(line for number, line in enumerate(lines) if number != int(position * len(lines)))

    return change


def with_lines_swapped(position: float) -> Change:
    def change(raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True)
        at = min(int(position * len(lines)), max(len(lines) - 2, 0))
        lines[at : at + 2] = reversed(lines[at : at + 2])
        return b"".join(lines)

    return change


def with_line_twice(position: float) -> Change:
    def change(raw: bytes) -> bytes:
        lines = raw.splitlines(keepends=True)
        at = min(int(position * len(lines)), len(lines) - 1)
        return b"".join([*lines[: at + 1], *lines[at:]])

    return change


def truncated(position: float) -> Change:
    return lambda raw: raw[: int(position * len(raw))]


POSITIONS = st.floats(min_value=0, max_value=1, exclude_max=True)
CHANGES = st.one_of(
    st.builds(flipped, POSITIONS, st.integers(0, 7)),
    st.builds(without_line, POSITIONS),
    st.builds(with_lines_swapped, POSITIONS),
    st.builds(with_line_twice, POSITIONS),
    st.builds(truncated, POSITIONS),
)


def check_one_change(run: Run, project: Project, expected: dict[str, Any], path: Path, change: Change) -> None:
    service = ExperimentService(SystemClock())
    with changed(path, change) as after:
        is_changed = not same(path, _BEFORE[path], after)
        for name, found in read(run, project).items():
            assert isinstance(found, RelabError) or found == expected[name], f"{name} after a change of {path}"
        if is_changed and path.relative_to(run.path).as_posix() not in NOT_ATTESTED:
            try:
                _, problems = service.damage_of_run(project.root, run.path)
            except RelabError:
                return
            assert problems, f"no problem is told of {path}"


_BEFORE: dict[Path, bytes] = {}


def same(path: Path, before: bytes, after: bytes) -> bool:
    """Return whether two versions of a document are equal; of the attestation, only the content counts."""
    if path.name != "attestation.json":
        return before == after
    try:
        return bool(json.loads(before) == json.loads(after))
    except ValueError:
        return False


@pytest.fixture(scope="module")
def expected(run: Run, project: Project) -> dict[str, Any]:
    for path in documents(run):
        _BEFORE[path] = path.read_bytes()
    found = read(run, project)
    assert not any(isinstance(value, RelabError) for value in found.values()), found
    return found


HARD = [
    "journal.jsonl",
    "manifest.json",
    "attestation.json",
    "resolved_experiment.json",
    "analysis/tables/trials.parquet",
]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_one_change_of_any_document_is_an_error_or_changes_no_result(
    data: st.DataObject, run: Run, project: Project, expected: dict[str, Any]
) -> None:
    # Half of the examples change the few documents that results are made of, the others any document.
    hard = [run.path / name for name in HARD]
    path = data.draw(st.one_of(st.sampled_from(hard), st.sampled_from(documents(run))))
    check_one_change(run, project, expected, path, data.draw(CHANGES))


def test_a_finished_run_without_its_status_is_refused(project: Project, run: Run) -> None:
    with changed(run.path / MUTABLE, lambda _: b""):
        for command, code in (("compare",), 2), (("experiments", "show"), 1):
            assert "run_control.json is missing" in refused(project, *command, str(run.path), code=code)


def test_a_manifest_without_a_fact_is_refused_before_the_fact_is_used(project: Project, run: Run) -> None:
    for fact in ("dataset_digest", "project_root", "keep_workspaces"):
        with changed(run.path / "manifest.json", lambda raw, fact=fact: raw.replace(fact.encode(), b"x")):
            said = refused(project, "run", "--continue", str(run.path), "--no-telemetry", code=1)
            assert "manifest.json has another digest" in said


@pytest.mark.full
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_many_changes_of_any_document_are_errors_or_change_no_result(
    data: st.DataObject, run: Run, project: Project, expected: dict[str, Any]
) -> None:
    hard = [run.path / name for name in HARD]
    path = data.draw(st.one_of(st.sampled_from(hard), st.sampled_from(documents(run))))
    check_one_change(run, project, expected, path, data.draw(CHANGES))


def refused(project: Project, *arguments: str, code: int) -> str:
    error = project.json(*arguments, code=code)["error"]
    assert error["code"] == "run_damaged", error
    return str(error["message"])


def test_successes_that_were_edited_to_failures_are_refused(project: Project, run: Run) -> None:
    edited = lambda raw: raw.replace(b'"outcome":"success","success":true', b'"outcome":"failure","success":false')  # noqa: E731
    with changed(run.path / "journal.jsonl", edited) as after:
        assert after.count(b'"failure"') == 10
        for command in (("run", "--continue", str(run.path), "--no-telemetry"), ("experiments", "show", str(run.path))):
            said = refused(project, *command, code=1)
            assert f"{run.path / 'journal.jsonl'}:2 was changed after it was written" in said
            assert "Restore the file from a copy, or start a new run" in said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw.replace(b'"row"', b'"rwo"', 1), ":2 was changed after it was written"),
        (lambda raw: b"".join(raw.splitlines(keepends=True)[:3] + raw.splitlines(keepends=True)[4:]), ":4 is line 5 of the"),
        (lambda raw: b"".join(raw.splitlines(keepends=True)[1:]), ":1 is line 2 of the journal: lines were removed"),
        (lambda raw: b"".join(raw.splitlines(keepends=True)[:-1]), "9 trials, but the attestation names 10: lines are missing"),
        (lambda raw: raw[:-40], "9 trials, but the attestation names 10: lines are missing"),
        (lambda raw: raw.replace(b',"check":"', b',"chock":"'), ":1 has no checksum, although this run"),
        (lambda _: b"", "0 trials, but the attestation names 10"),
    ],
)  # fmt: skip
def test_damage_of_the_journal_is_named_with_its_line(project: Project, run: Run, change: Change, says: str) -> None:
    with changed(run.path / "journal.jsonl", change):
        assert says in refused(project, "run", "--continue", str(run.path), "--no-telemetry", code=1)


@pytest.mark.parametrize("name", ["analysis/tables/trials.parquet", "analysis/tables/metrics_long.parquet"])
def test_damaged_table_is_reported_without_the_message_of_the_database(project: Project, run: Run, name: str) -> None:
    for change, says in ((flipped(0.3, 2), "was changed after it was written"), (lambda _: b"", "is missing")):
        with changed(run.path / name, change):
            # Exit code 1 would mean FAIL.
            said = refused(project, "compare", str(run.path), code=2)
            assert f"{run.path / name} {says}" in said
            assert "arquet" not in said.replace(name, "")


def test_status_that_was_edited_does_not_complete_a_run(project: Project, run: Run) -> None:
    control = run.path / "runtime" / "run_control.json"
    with changed(control, lambda raw: raw.replace(b"completed", b"completfd")):
        assert "has the invalid status 'completfd'" in refused(project, "compare", str(run.path), code=2)
    with changed(control, lambda raw: raw.replace(b"completed", b"interrupted")):
        assert project.json("compare", str(run.path), code=2)["verdict"] == "INVALID"


def test_verify_names_every_file_that_was_changed(project: Project, run: Run) -> None:
    whole = project.json("experiments", "verify", str(run.path))
    assert whole["whole"] is True
    assert whole["problems"] == []
    output = run.trial("trial_3") / "trial_output.json"
    summary = run.path / "analysis" / "summary.json"
    edited = changed(output, lambda raw: raw.replace(b"success", b"failure"))
    with edited, changed(summary, lambda raw: raw + b" "):
        found = project.json("experiments", "verify", str(run.path), code=1)
    assert found["whole"] is False
    first, second = found["problems"]
    assert str(summary) in first
    assert second == f"{output} was changed after it was written"
    assert "every file is unchanged" in project.lab("experiments", "verify", str(run.path)).out


def test_verify_names_every_document_of_the_store_that_is_missing(project: Project, run: Run) -> None:
    stored = sorted((run.path / "evidence" / "objects").glob("*.json"))
    kinds = {json.loads(path.read_text())["schema_version"] for path in stored}
    assert kinds == {"workspace_snapshot_v1", "workspace_diff_v1", "workspace_patch_v1", "state_inventory_v1"}
    for path in stored:
        with changed(path, lambda _: b""):
            assert project.json("experiments", "verify", str(run.path), code=1)["problems"] == [f"{path} is missing"]


def earlier(run: Run, copy: Path, keep: int) -> Run:
    """Return a copy of a run as an earlier version left it after a kill: without checksums and without attestation."""
    shutil.copytree(run.path, copy, symlinks=True)
    lines = [json.loads(line) for line in (copy / "journal.jsonl").read_text().splitlines()[1 : keep + 1]]
    for line in lines:
        del line["line"], line["check"]
    (copy / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (copy / "attestation.json").unlink()
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["ext"]["journal"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return Run(copy)


def test_run_of_an_earlier_version_is_continued_and_gets_checksums(project: Project, run: Run, tmp_path: Path) -> None:
    old = earlier(run, project.root / ".lab" / "runs" / "run_old", keep=4)
    try:
        assert project.json("experiments", "show", str(old.path))["run"]["integrity"] == "unchecked"

        answer = project.json("run", "--continue", str(old.path), "--no-telemetry")

        assert answer["finished"] is True
        assert answer["trials"] == {"total": 10, "done": 10}
        lines = [json.loads(line) for line in (old.path / "journal.jsonl").read_text().splitlines()]
        assert [line["line"] for line in lines] == list(range(1, 12))
        assert project.json("experiments", "show", str(old.path))["run"]["integrity"] == "checked"
        assert project.json("experiments", "verify", str(old.path))["whole"] is True
    finally:
        shutil.rmtree(old.path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda raw: raw.replace(b'"variant_id"', b'"variant_ie"', 2), "its row has no variant_id"),
        (lambda raw: raw.replace(b'"outcome"', b'"outcomf"', 1), "its row has no outcome"),
        (lambda raw: raw.replace(b'"variant_id": "control"', b'"variant_id": "contrpl"'), "a trial of a variant that"),
        (lambda raw: raw.replace(b'"success": true', b'"success": 1'), "its outcome is 'success'"),
        (lambda raw: raw.replace(b'"row"', b'"rwo"', 1), "it has no row with a trial_id"),
    ],
)
def test_damaged_journal_of_an_earlier_version_is_not_an_internal_error(
    project: Project, run: Run, change: Change, says: str
) -> None:
    old = earlier(run, project.root / ".lab" / "runs" / "run_old", keep=4)
    try:
        with changed(old.path / "journal.jsonl", change):
            assert says in refused(project, "run", "--continue", str(old.path), "--no-telemetry", code=1)
    finally:
        shutil.rmtree(old.path)


def test_damaged_table_of_an_earlier_version_is_reported(project: Project, run: Run) -> None:
    old = earlier(run, project.root / ".lab" / "runs" / "run_old", keep=10)
    try:
        with changed(old.path / "analysis" / "tables" / "trials.parquet", truncated(0.5)):
            said = refused(project, "compare", str(old.path), code=2)
            assert f"{old.path / 'analysis' / 'tables'} has a table that cannot be read" in said
    finally:
        shutil.rmtree(old.path)
