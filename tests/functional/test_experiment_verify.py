"""`lab verify` finds every change in the folder of a run, and names the first changed byte."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.experiments.proof.keys import PublicKey, SigningKey, SigningKeyError
from relab.experiments.proof.proving import prove_run, usable_signer
from relab.experiments.proof.signers import Trust
from relab.experiments.proof.verification import ProofVerdict, Verification, verify_run
from relab.experiments.records.run_folder import open_run
from relab.experiments.records.seals import seal
from support.experiments.projects import WAITING, Project, Run, answering
from support.experiments.proven import proven_project
from support.telemetry.runs import examples

SEAL, STATEMENTS, LOCK = "seal.jsonl", "attestation.intoto.jsonl", "runtime/run.lock"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return proven_project(tmp_path_factory.mktemp("verify"))


@pytest.fixture(scope="module")
def run(project: Project) -> Run:
    return project.run()


@pytest.fixture(scope="module")
def key(project: Project, run: Run) -> PublicKey:
    found = SigningKey(project.home / "keys" / "signing_key.pem").known_public()
    assert found is not None
    return found


def files_of(run: Run) -> list[str]:
    found = (path for path in run.path.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path.relative_to(run.path).as_posix() for path in found)


@contextmanager
def changed(path: Path, change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """Replace a file by a changed one during the block; a write in place would change its other hard links too."""
    before = path.read_bytes()
    path.unlink()
    after = change(before)
    path.write_bytes(after)
    try:
        yield after
    finally:
        path.unlink()
        path.write_bytes(before)


@contextmanager
def moved(path: Path, target: Path) -> Iterator[None]:
    path.rename(target)
    try:
        yield
    finally:
        target.rename(path)


def damaged_paths(found: Verification) -> set[str]:
    return {each.path for each in found.damage}


def flipped(at: int, bit: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]


def test_untouched_run_is_verified_and_names_its_key(run: Run, key: PublicKey) -> None:
    found = verify_run(run.path, own=key)

    assert found.verdict is ProofVerdict.VERIFIED
    assert (found.state, found.damage_count) == ("completed", 0)
    assert found.signer.trust is Trust.OWN_KEY
    assert found.files == len(files_of(run)) - len({SEAL, STATEMENTS, LOCK})


@given(data=st.data())
@examples(60)
def test_every_flipped_bit_is_found_at_its_byte(run: Run, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in files_of(run) if (run.path / name).stat().st_size]))
    at = data.draw(st.integers(0, (run.path / name).stat().st_size - 1))

    with changed(run.path / name, flipped(at, data.draw(st.integers(0, 7)))):
        found = verify_run(run.path)

    assert found.verdict is ProofVerdict.DAMAGED
    first = next(each for each in found.damage if each.path == name)
    assert first.begin is not None
    assert first.end is not None
    assert first.begin <= at < first.end
    # The seal and the statements have no fingerprint, so only their changed line is known.
    assert (first.begin == at and first.end == at + 1) or name in {SEAL, STATEMENTS}


def test_a_flipped_bit_in_each_file_is_found(run: Run) -> None:
    for name in files_of(run):
        size = (run.path / name).stat().st_size
        change = flipped(size // 2, 3) if size else lambda _: b"x"
        with changed(run.path / name, change):
            found = verify_run(run.path)

        assert found.verdict is ProofVerdict.DAMAGED, name
        assert name in damaged_paths(found)


POSITIONS = st.floats(min_value=0, max_value=1, exclude_max=True)


@st.composite
def rewritings(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    position = draw(POSITIONS)
    kind = draw(st.sampled_from(["truncate", "append", "swap", "drop", "overwrite"]))

    def change(raw: bytes) -> bytes:
        at = int(position * len(raw))
        lines = raw.splitlines(keepends=True)
        index = min(int(position * len(lines)), max(len(lines) - 2, 0))
        if kind == "truncate":
            return raw[:at]
        if kind == "append":
            return raw + b"\n{}"
        if kind == "overwrite":
            return raw[:at] + b"\0" * len(raw[at : at + 9]) + raw[at + 9 :]
        lines[index : index + 2] = (
            reversed(lines[index : index + 2]) if kind == "swap" else lines[index + 1 : index + 2]
        )
        return b"".join(lines)

    return change


@given(data=st.data(), change=rewritings())
@examples(40)
def test_every_rewriting_is_found_in_the_range_that_is_named(
    run: Run, data: st.DataObject, change: Callable[[bytes], bytes]
) -> None:
    name = data.draw(st.sampled_from([name for name in files_of(run) if name != LOCK]))
    before = (run.path / name).read_bytes()

    with changed(run.path / name, change) as after:
        found = verify_run(run.path)

    if after == before:
        assert found.verdict is ProofVerdict.VERIFIED
        return
    assert found.verdict is ProofVerdict.DAMAGED
    first = next(each for each in found.damage if each.path == name)
    at = next(
        (at for at, (old, new) in enumerate(zip(before, after, strict=False)) if old != new),
        min(len(before), len(after)),
    )
    if first.begin is not None and first.end is not None and name not in {SEAL, STATEMENTS}:
        assert first.begin <= at < first.end


def test_structural_changes_are_found(run: Run) -> None:
    trial = run.trial("trial_1")
    cases = {
        "trials/trial_1/extra": lambda: (trial / "extra").write_text("more"),
        "trials/trial_1/empty": (trial / "empty").mkdir,
        "trials/trial_1/workspace/other": lambda: (trial / "workspace" / "other").symlink_to("notes.bin"),
        "analysis/.hidden": lambda: (run.path / "analysis" / ".hidden").write_text(""),
    }
    for path, make in cases.items():
        make()
        found = verify_run(run.path)
        made = run.path / path
        made.rmdir() if made.is_dir() and not made.is_symlink() else made.unlink()

        assert [each.path for each in found.damage] == [path]
        assert "was added" in found.damage[0].what

    with moved(trial / "stdout.log", trial / "stdout.txt"):
        assert damaged_paths(verify_run(run.path)) == {"trials/trial_1/stdout.log", "trials/trial_1/stdout.txt"}
    with moved(trial / "state" / "memory", run.path.parent / "memory"):
        assert damaged_paths(verify_run(run.path)) == {"trials/trial_1/state/memory"}
    with moved(trial / "workspace", run.path.parent / "workspace"):
        assert damaged_paths(verify_run(run.path)) == {"trials/trial_1/workspace"}
    with moved(trial / "stdout.log", run.path.parent / "kept"):
        (trial / "stdout.log").symlink_to(run.path.parent / "kept")
        assert damaged_paths(verify_run(run.path)) == {"trials/trial_1/stdout.log"}
        (trial / "stdout.log").unlink()
    (trial / "workspace" / "link").unlink()
    (trial / "workspace" / "link").symlink_to("/etc/passwd")
    assert [each.what for each in verify_run(run.path).damage] == ["is a link to another target"]
    (trial / "workspace" / "link").unlink()
    (trial / "workspace" / "link").symlink_to("notes.bin")
    for name in (SEAL, STATEMENTS, LOCK):
        with moved(run.path / name, run.path.parent / "kept"):
            assert name in damaged_paths(verify_run(run.path))
    assert verify_run(run.path).verdict is ProofVerdict.VERIFIED


def test_intact_copy_locates_the_first_of_several_changed_bytes(run: Run) -> None:
    name = "trials/trial_1/workspace/notes.bin"

    with changed(run.path / name, lambda raw: raw[:5_000] + b"many bytes" + raw[5_010:]):
        (damage,) = verify_run(run.path).damage

    assert (damage.begin, damage.end) == (5_000, 5_001), "the workspace of the other trial has the same file"


def test_forged_run_fails_with_the_key_of_its_author(run: Run, key: PublicKey, tmp_path: Path) -> None:
    forged = tmp_path / run.path.name
    shutil.copytree(run.path, forged, symlinks=True)
    (forged / "trials/trial_1/stdout.log").write_text("all went well\n")
    attestation = json.loads((forged / "attestation.json").read_bytes())

    signer = usable_signer(tmp_path / "keys" / "other.pem")
    attestation["ext"]["signed_by"] = signer.key_id
    (forged / "attestation.json").write_text(json.dumps(seal(attestation)))
    prove_run(open_run(forged), signer)

    found = verify_run(forged, given=key)
    assert found.verdict is ProofVerdict.DAMAGED, "the journal names the digest of the document"
    assert found.damage[0].path == "trials/trial_1/stdout.log"
    (forged / "trials/trial_1/stdout.log").write_bytes((run.path / "trials/trial_1/stdout.log").read_bytes())
    prove_run(open_run(forged), signer)
    found = verify_run(forged, given=key)
    assert (found.verdict, found.signer.trust) == (ProofVerdict.UNTRUSTED, Trust.OTHER_KEY)
    assert verify_run(forged).signer.trust is Trust.UNKNOWN_KEY


def test_command_answers_with_the_first_byte_and_its_exit_code(project: Project, run: Run, key: PublicKey) -> None:
    assert project.lab("keys", "show", "--json").out.count("\n") == 1, "AgentLab's client reads the last line"
    pem = project.root / "key.pem"
    pem.write_text(project.lab("keys", "show", "--pem").out)
    assert project.json("verify", run.path.name, "--key", str(pem))["trust"] == "given_key"
    assert project.json("keys", "show")["key_id"] == key.key_id
    assert (project.home / "keys" / "signing_key.pem").stat().st_mode & 0o777 == 0o600

    with changed(run.trial("trial_2") / "stdout.log", flipped(9, 0)):
        answer = project.json("verify", str(run.path), code=1)
        text = project.lab("verify", str(run.path), code=1).out

    assert answer["first"] == {
        "path": "trials/trial_2/stdout.log",
        "what": "was changed after the run was sealed (it had 21 bytes, and has 21)",
        "offset": 9,
        "begin": 9,
        "end": 10,
        "line": 2,
    }
    assert "trials/trial_2/stdout.log:2 was changed" in text
    assert project.json("verify", run.path.name, "--key", f"ed25519:{'0' * 64}", code=1)["verdict"] == "untrusted"
    assert "neither" in project.lab("verify", run.path.name, "--key", "nowhere", code=64).err
    assert project.json("verify", "run_of_nobody", code=64)["error"]["code"] == "run_not_found"
    assert project.json("experiments", "verify", "run_of_nobody", code=64)["error"]["code"] == "run_not_found"


def test_running_and_killed_runs_are_reported_as_unfinished(tmp_path: Path) -> None:
    folder = tmp_path / "my project"
    folder.mkdir()
    project = Project.make(folder, WAITING, tasks=[{"task_id": "one"}, {"task_id": "two", "waits": True}])
    project.configure(baseline={"bindings": {"meet": str(tmp_path)}})
    with project.start("--no-telemetry") as runner:
        found = runner.wait_done(1)
        answer = project.json("verify", str(found.path), code=2)
        runner.kill()
        killed = project.json("verify", str(found.path), code=2)

    assert (answer["verdict"], answer["state"]) == ("unfinished", "running")
    assert (killed["verdict"], killed["state"]) == ("unfinished", "killed")
    assert shlex.split(killed["message"])[-4:] == ["lab", "run", "--continue", str(found.path)]


def test_paused_run_is_checked_as_far_as_it_got(tmp_path: Path) -> None:
    project = Project.make(tmp_path, WAITING, tasks=[{"task_id": "one"}, {"task_id": "two", "waits": True}])
    project.configure(baseline={"bindings": {"meet": str(tmp_path)}}, design={"max_concurrency": 1})
    with project.start("--no-telemetry") as runner:
        path = runner.wait_done(1).path
        # Without a running trial there would be nothing to pause.
        runner.wait_for(tmp_path / "started-trial_2")
        project.lab("pause", "--run-dir", path.name, "--timeout-seconds", "0.2", code=None)
        runner.end(130)

    found = verify_run(path)
    assert (found.verdict, found.damage_count) == (ProofVerdict.UNFINISHED, 0)
    assert "it has no final result yet. Every file is as it was when it stopped" in found.message
    with changed(path / "journal.jsonl", flipped(40, 1)):
        assert verify_run(path).verdict is ProofVerdict.DAMAGED
    (tmp_path / "go").write_text("")
    project.json("run", "--continue", str(path), "--no-telemetry")
    assert verify_run(path).verdict is ProofVerdict.VERIFIED


def test_key_that_other_users_may_read_is_refused(tmp_path: Path) -> None:
    key = SigningKey(tmp_path / "keys" / "signing_key.pem")
    public = key.public()
    assert SigningKey(key.path).public() == public
    assert public.verifies(key.sign(b"text"), b"text")
    assert not public.verifies(key.sign(b"text"), b"another text")

    key.path.chmod(0o640)

    with pytest.raises(SigningKeyError, match="chmod 600"):
        key.sign(b"text")


def test_run_is_sealed_without_a_signature_where_the_key_cannot_be_used(tmp_path: Path) -> None:
    project = Project.make(tmp_path, tasks=1)
    project.write_harness(answering())
    project.configure(command=["sh", "./harness"])
    (project.home / "keys").mkdir(parents=True)
    (project.home / "keys" / "signing_key.pem").write_text("no key")

    run = project.run()

    assert "The run is not signed." in run.answer["warnings"][-1]
    assert "lab: warning: The run is not signed." in project.lab("run", "--no-telemetry").err
    assert "lab: warning: The run is not signed." in project.lab("run", str(project.experiment), "--set", "s").err
    found = verify_run(run.path)
    assert (found.verdict, found.signer.trust) == (ProofVerdict.VERIFIED, Trust.UNSIGNED)
    assert "the attestation is not signed" in run.json("attestation.json")["grades_summary"]["notes"]
