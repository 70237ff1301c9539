"""`lab publish` writes a bundle without secrets, and `lab open` unpacks nothing that is unsafe or was changed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.core.errors import RelabError
from relab.experiments.proof.bundle_reading import unpack_bundle, verify_bundle
from relab.experiments.proof.errors import BundleInvalidError
from relab.experiments.proof.verification import ProofVerdict
from relab.experiments.sdk import LabClient
from support.experiments.projects import WAITING, Project, Run
from support.experiments.proven import proven_project
from support.telemetry.runs import examples

DECLARED = "correct horse battery"
OF_THE_SHELL = "staple-9f8e7d6c"
TOKEN = "ghp_" + "a1B2" * 9
PASSWORD = "hunter2-hunter2"
PLANTED = [DECLARED, OF_THE_SHELL, TOKEN, PASSWORD]
PLANTING = f"""\
import base64, gzip, shutil
out = Path(paths["out"])
token, password = {TOKEN!r}, {PASSWORD!r}
print("calling with", token, "Authorization: Bearer", "abcdefgh" * 4)
(out / ("log-" + token)).write_text("named")
(out / "nested.json").write_text(json.dumps({{"db": {{"password": password, "tokens": 123456789}}, "body": json.dumps({{"api_key": password}})}}))
(out / "lines.jsonl").write_text(json.dumps({{"a": 1}}) + "\\n" + json.dumps({{"url": "https://u:" + password + "@host/x"}}) + "\\n")
(out / "dump.bin").write_bytes(b"\\x00\\x01\\xff" + token.encode() + b"\\x00\\xfe" * 100)
(out / "encoded.txt").write_text("x " + base64.b64encode(("pw: secret=" + password).encode()).decode() + " y")
(out / "shell.txt").write_text("it was {OF_THE_SHELL} there")
(out / "kept.gz").write_bytes(gzip.compress(token.encode()))
shutil.copy(bindings["tables"] + "/t.parquet", out / "t.parquet")
shutil.copy(bindings["tables"] + "/t.duckdb", out / "t.duckdb")
answer(answer={{"note": "password=" + password}})
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return proven_project(tmp_path_factory.mktemp("publish"))


@pytest.fixture(scope="module")
def run(project: Project) -> Run:
    return project.run()


@pytest.fixture(scope="module")
def bundle(project: Project, run: Run) -> Path:
    return Path(project.json("publish", "--run-dir", run.path.name)["bundle"])


def test_bundle_of_a_run_without_secrets_proves_its_files(
    project: Project, run: Run, bundle: Path, tmp_path: Path
) -> None:
    answer = project.json("publish", "--run-dir", str(run.path), "--output", str(tmp_path / "again.zip"))
    assert answer["masked"] == {}
    assert answer["left_out"] == {"workspace": 2}
    assert answer["original"]["is_proven"] is True
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes(), "the same run gives the same bytes"
    assert project.json("verify", run.path.name)["verdict"] == "verified", "publishing changes nothing"

    opened = project.json("open", str(bundle), "--to", str(tmp_path / "opened"))

    assert opened["verdict"] == "verified"
    assert "of its files to be files of the run" in opened["relation"]
    for name in (
        "journal.jsonl",
        "analysis/report.html",
        "analysis/tables/trials.parquet",
        "trials/trial_1/stdout.log",
    ):
        assert (tmp_path / "opened" / name).read_bytes() == (run.path / name).read_bytes()
    assert Path(opened["report"]).is_file()
    assert project.json("verify", str(bundle))["verdict"] == "verified"
    assert project.json("verify", str(bundle), "--key", f"ed25519:{'0' * 64}", code=1)["verdict"] == "untrusted"


def test_workspaces_are_published_on_request(project: Project, run: Run, tmp_path: Path) -> None:
    client = LabClient(cwd=project.root, env={"RELAB_HOME": str(project.home)})
    answer = client.publish(str(run.path), output=str(tmp_path / "whole.zip"), with_workspaces=True)

    assert answer["left_out"] == {"link": 2}, "a link could lead anywhere"
    with zipfile.ZipFile(answer["bundle"]) as archive:
        assert archive.read("run/trials/trial_1/workspace/harness") == (project.root / "harness").read_bytes()
    assert client.verify(answer["bundle"])["verdict"] == "verified"
    assert client.verify(str(run.path))["verdict"] == "verified"


def test_bundle_of_a_run_with_hostile_file_names_can_be_opened(tmp_path: Path) -> None:
    planting = r"""
import duckdb
for name in ("a\u202eb", "a\u2028", "\x1b[31m", "x" * 255, "\n" * 200, "z. "):
    Path(paths["out"], name).write_text("kept")
for name in ("d" * 200, "\U0001f600" * 50):
    deep = Path(paths["out"], *(name for _ in range(6)))
    deep.mkdir(parents=True)
    (deep / "file").write_text("too deep")
with duckdb.connect(paths["out"] + "/t.duckdb") as connection:
    connection.execute('CREATE TABLE "t\u202e" AS SELECT 1 AS a')
answer()
"""
    project = Project.make(tmp_path, planting, [{"task_id": "a"}])
    project.configure(command=[sys.executable, "harness"])
    run = project.run()
    answer = project.json("publish", "--run-dir", run.path.name)
    project.json("open", answer["bundle"], "--to", str(tmp_path / "opened"), "--no-browser")

    assert answer["left_out"]["long_name"] == 3
    names = {path.name for path in (tmp_path / "opened").rglob("*")}
    assert {"a%202Eb", "a%2028", "%1B[31m", "x" * 255, "z.%20", "t.duckdb.main.t%202E.parquet"} <= names


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """Publish a run with credentials in many places; return the answer and the folder of the opened bundle."""
    folder = tmp_path_factory.mktemp("masked")
    with duckdb.connect(str(folder / "t.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE t AS SELECT i, ? AS header, ['password=' || ?] AS list FROM range(50) r(i)", [TOKEN, PASSWORD]
        )
        connection.execute(f"COPY t TO '{folder / 't.parquet'}' (FORMAT parquet)")
    project = Project.make(folder, PLANTING, tasks=1)
    project.configure(
        baseline={"bindings": {"tables": str(folder)}},
        runtime={"harness": {"integration_level": "cli_events", "secrets": ["DECLARED"]}},
    )
    secrets = {"DECLARED": DECLARED, "CI_TOKEN": OF_THE_SHELL}
    run = project.run(**secrets)
    # After the run, so that the runner has not masked it.
    (run.trial("trial_1") / "out" / "later.log").write_text(f"the {DECLARED} again")
    answer = project.json("publish", "--run-dir", str(run.path), "--output", str(folder / "b.zip"), **secrets)
    project.json("open", answer["bundle"], "--to", str(folder / "opened"))
    return answer, folder / "opened"


def texts_of(path: Path) -> bytes:
    """Return the path and the content of a file; for a table, also all its values."""
    content = path.read_bytes()
    if path.suffix == ".parquet":
        content += repr(duckdb.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()).encode()
    return str(path).encode() + content


def test_no_planted_secret_is_in_the_bundle(masked: tuple[dict[str, Any], Path]) -> None:
    _, opened = masked
    needles = [form for text in PLANTED for form in (text.encode(), base64.b64encode(text.encode()).rstrip(b"=")[:-2])]
    found = [path for path in opened.rglob("*") if path.is_file() and any(each in texts_of(path) for each in needles)]

    assert found == []
    out = opened / "trials" / "trial_1" / "out"
    assert len(duckdb.execute("SELECT * FROM read_parquet(?)", [str(out / "t.parquet")]).fetchall()) == 50
    assert len(duckdb.execute("SELECT * FROM read_parquet(?)", [str(out / "t.duckdb.main.t.parquet")]).fetchall()) == 50
    assert json.loads((out / "nested.json").read_bytes())["db"] == {"password": "[masked]", "tokens": 123456789}
    for path in opened.rglob("*.json*"):
        for text in path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]:
            json.loads(text)


def test_manifest_names_masked_secrets_without_their_values(masked: tuple[dict[str, Any], Path]) -> None:
    answer, _ = masked

    assert {
        "declared",
        "token",
        "named_value",
        "authorization",
        "url_password",
        "base64",
        "file_name",
        "digest",
    } <= answer["masked"].keys()
    assert answer["left_out"]["compressed"] == 1
    assert answer["declared"] == {"DECLARED": True}
    assert answer["original"]["is_proven"] is False
    assert answer["original"]["seal_sha256"] is None
    assert answer["original"]["verdict"] == "damaged", "a file was added after the run"
    with zipfile.ZipFile(answer["bundle"]) as archive:
        raw = archive.read("bundle.json") + archive.read("bundle.intoto.json")
    assert not [text for text in PLANTED if text.encode() in raw]


def test_secret_that_is_too_short_to_be_masked_is_not_said_to_be(
    masked: tuple[dict[str, Any], Path], project: Project, run: Run, tmp_path: Path
) -> None:
    run_dir = Path(masked[0]["bundle"]).parent / "project" / ".lab" / "runs" / masked[0]["run_id"]
    target = ("--output", str(tmp_path / "b.zip"))
    for value in ("", "horse"):
        answer = project.json("publish", "--run-dir", str(run_dir), *target, DECLARED=value)
        assert answer["declared"] == {"DECLARED": False}
        Path(answer["bundle"]).unlink()
    told = project.lab("publish", "--run-dir", str(run_dir), *target, DECLARED="horse").err
    assert "DECLARED is not set, or has fewer than 6 characters, so it was masked only where it looks like" in told
    Path(answer["bundle"]).unlink()
    asked = ("publish", "--run-dir", str(run.path), *target, "--secret", "PIN")
    refused = project.json(*asked, code=64, PIN="12345")["error"]["message"]
    assert "PIN, whose value has fewer than 6 characters" in refused
    assert project.json(*asked, PIN="123456")["declared"] == {"PIN": True}


def test_digests_of_masked_documents_are_not_published(masked: tuple[dict[str, Any], Path]) -> None:
    answer, opened = masked
    run_dir = Path(answer["bundle"]).parent / "project" / ".lab" / "runs" / answer["run_id"]
    original = run_dir / "trials" / "trial_1" / "stdout.log"
    digest = hashlib.sha256(original.read_bytes()).hexdigest().encode()

    assert TOKEN.encode() in original.read_bytes()
    assert digest in (run_dir / "journal.jsonl").read_bytes()
    assert [path for path in opened.rglob("*") if path.is_file() and digest in path.read_bytes()] == []
    assert not (opened / "seal.jsonl").exists()


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@examples(40)
def test_flipped_bit_of_a_bundle_changes_no_content_unnoticed(
    bundle: Path, tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    raw = bytearray(bundle.read_bytes())
    raw[int(position * len(raw))] ^= 1 << bit
    changed = tmp_path_factory.mktemp("flip") / "b.zip"
    changed.write_bytes(raw)

    try:
        verdict = verify_bundle(changed).verdict
    except BundleInvalidError:
        return
    # Fields of the archive that do not affect the content, such as times, may change.
    assert verdict is ProofVerdict.DAMAGED or contents(changed) == contents(bundle)


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(bundle: Path, target: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    found = contents(bundle)
    change(found)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in found.items():
            archive.writestr(name, data)
    return target


def test_edited_bundle_is_damaged_and_not_unpacked(bundle: Path, tmp_path: Path) -> None:
    def edit(found: dict[str, bytes]) -> None:
        found["run/trials/trial_1/stdout.log"] = b"all went well\n"

    def edit_with_manifest(found: dict[str, bytes]) -> None:
        edit(found)
        document = json.loads(found["bundle.json"])
        for file in document["files"]:
            if file["path"] == "trials/trial_1/stdout.log":
                file |= {"size": 14, "sha256": hashlib.sha256(b"all went well\n").hexdigest()}
        found["bundle.json"] = json.dumps(document).encode()

    def edit_without_signature(found: dict[str, bytes]) -> None:
        edit_with_manifest(found)
        del found["bundle.intoto.json"]

    for number, change in enumerate([edit, edit_with_manifest, edit_without_signature]):
        changed = rewritten(bundle, tmp_path / f"{number}.zip", change)
        assert verify_bundle(changed).verdict is ProofVerdict.DAMAGED
        with pytest.raises(RelabError) as caught:
            unpack_bundle(changed, tmp_path / "opened")
        assert caught.value.code == "bundle_damaged"
        assert [path.name for path in tmp_path.iterdir() if "opened" in path.name] == []


def hostile(name: str, data: bytes = b"x", mode: int = 0o100644) -> Callable[[zipfile.ZipFile], None]:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return lambda archive: archive.writestr(entry, data)


@pytest.mark.parametrize(
    "name",
    [
        "../../escape",
        "/etc/escape",
        "run/../../escape",
        "run\\..\\escape",
        "run/c:escape",
        "run//x",
        "run/./x",
        "other/x",
        "run/a\nb",
    ],
)
def test_entry_outside_of_the_folder_is_refused(bundle: Path, tmp_path: Path, name: str) -> None:
    check_refused(bundle, tmp_path, hostile(name), "unsafe name" if name != "other/x" else "does not belong")


def test_links_duplicates_and_bombs_are_refused(bundle: Path, tmp_path: Path) -> None:
    check_refused(bundle, tmp_path, hostile("run/link", b"/etc/passwd", stat.S_IFLNK | 0o777), "not a regular file")
    check_refused(bundle, tmp_path, hostile("run/JOURNAL.jsonl"), "twice")
    check_refused(bundle, tmp_path, hostile("run/journal.jsonl/x"), "a file and a folder")
    check_refused(bundle, tmp_path, hostile("run/bomb", bytes(50_000_000)), "the limit is", max_bytes=20_000_000)
    overlapping = bytearray(bundle.read_bytes())
    # The second entry of the central directory points to the first entry's data.
    second = overlapping.index(b"PK\x01\x02", overlapping.index(b"PK\x01\x02") + 4)
    overlapping[second + 42 : second + 46] = bytes(4)
    (tmp_path / "overlap.zip").write_bytes(overlapping)
    with pytest.raises(BundleInvalidError):
        verify_bundle(tmp_path / "overlap.zip")


def check_refused(
    bundle: Path, tmp_path: Path, add: Callable[[zipfile.ZipFile], None], said: str, max_bytes: int = 10**9
) -> None:
    buffer = io.BytesIO(bundle.read_bytes())
    with zipfile.ZipFile(buffer, "a") as archive:
        add(archive)
    path = tmp_path / "hostile.zip"
    path.write_bytes(buffer.getvalue())

    with pytest.raises(BundleInvalidError, match=said):
        unpack_bundle(path, tmp_path / "opened", max_bytes=max_bytes)
    assert sorted(each.name for each in tmp_path.iterdir() if each.suffix != ".zip") == []


def test_entry_with_a_wrong_size_is_damage(bundle: Path, tmp_path: Path) -> None:
    raw = bytearray(bundle.read_bytes())
    with zipfile.ZipFile(bundle) as archive:
        name = b"run/journal.jsonl"
        size = archive.getinfo(name.decode()).file_size
    at = raw.rindex(name) - 46 + 24
    raw[at : at + 4] = (size - 7).to_bytes(4, "little")
    (tmp_path / "short.zip").write_bytes(raw)

    assert verify_bundle(tmp_path / "short.zip").verdict is ProofVerdict.DAMAGED


def test_bad_input_is_a_named_error_and_changes_nothing(
    project: Project, run: Run, bundle: Path, tmp_path: Path
) -> None:
    where = ("--run-dir", str(run.path))
    (tmp_path / "no.zip").write_bytes(b"not a zip")
    (tmp_path / "full").mkdir()
    os.mkfifo(tmp_path / "pipe")
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("publish", "--run-dir", "nothing"), 1, "run_not_found"),
        (("publish", *where, "--output", str(bundle)), 64, "invalid_input"),
        (("publish", *where, "--output", str(run.path / "b.zip")), 64, "invalid_input"),
        (("publish", *where, "--output", str(tmp_path / "b.zip"), "--secret", "NOT_SET"), 64, "invalid_input"),
        (("open", str(tmp_path / "nothing.zip"), "--to", str(tmp_path / "o")), 1, "bundle_not_found"),
        (("open", str(tmp_path / "no.zip"), "--to", str(tmp_path / "o")), 64, "bundle_invalid"),
        (("open", str(tmp_path / "full"), "--to", str(tmp_path / "o")), 64, "bundle_invalid"),
        (("open", str(tmp_path / "pipe"), "--to", str(tmp_path / "o")), 64, "bundle_invalid"),
        (("open", str(bundle), "--to", str(tmp_path / "o"), "--max-gb", "nan"), 64, "invalid_input"),
        (("open", str(bundle), "--to", str(tmp_path / "full")), 64, "bundle_invalid"),
        (("open", str(bundle), "--to", str(tmp_path / "o"), "--key", f"ed25519:{'0' * 64}"), 1, "bundle_damaged"),
        (("verify", str(tmp_path / "no.zip")), 64, "bundle_invalid"),
    ]
    for arguments, code, name in cases:
        assert project.json(*arguments, code=code)["error"]["code"] == name, arguments

    assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "no.zip", "pipe"]
    assert project.json("verify", run.path.name)["verdict"] == "verified"


def test_running_run_is_not_published(tmp_path: Path) -> None:
    project = Project.make(tmp_path, WAITING, tasks=[{"task_id": "one", "waits": True}])
    project.configure(baseline={"bindings": {"meet": str(tmp_path)}})
    with project.start("--no-telemetry") as runner:
        runner.wait_for(tmp_path / "started-trial_1")
        (path,) = project.runs()
        assert project.json("publish", "--run-dir", path.name, code=1)["error"]["code"] == "run_busy"
        (tmp_path / "go").write_text("")
        runner.end()


def test_bundle_of_a_damaged_run_is_reported_as_damaged(project: Project, run: Run, tmp_path: Path) -> None:
    copy = tmp_path / run.path.name
    shutil.copytree(run.path, copy, symlinks=True)
    (copy / "trials/trial_1/stdout.log").write_text("other\n")

    answer = project.json("publish", "--run-dir", str(copy), "--output", str(tmp_path / "b.zip"))

    assert answer["original"]["verdict"] == "damaged"
    assert "The run is damaged" in answer["warnings"][0]
    assert verify_bundle(tmp_path / "b.zip").verdict is ProofVerdict.DAMAGED, "the file is not the one in the seal"
