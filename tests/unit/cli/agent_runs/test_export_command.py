"""`lab agent-runs export`: writes complete files or none, and no control characters to stdout."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from support.lab.cli import Lab
from support.lab.in_process import InProcessLab
from support.lab.process import lab_environment
from support.otlp.traces import Trace, encode
from support.telemetry.runs import RunBody, failed_run, minimal_run

EXIT_FAILED, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_INTERNAL, EXIT_CLOSED_PIPE = 1, 64, 69, 70, 141
HOSTILE = "\x7f\x9b31m\u202eabc\u2028\U0001f600"
OBEYED = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
EXPORT = ("agent-runs", "export", "--output")


def lines_of(text: str | bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (text.encode() if isinstance(text, str) else text).split(b"\n") if line]


def ingest(lab: Lab, *bodies: RunBody) -> None:
    lab.run("agent-runs", "ingest", "-", stdin=json.dumps(bodies))


def test_exported_runs_can_be_ingested_into_another_home(lab: Lab, empty: Lab, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"

    told = lab.run(*EXPORT, str(path))
    taken = empty.run("agent-runs", "ingest", str(path))

    assert told.out == f"2 agent run(s) exported to {path}.\n"
    assert told.err == ""
    assert taken.out.startswith("2 created, 0 updated")
    assert {item.name for item in tmp_path.iterdir()} == {"runs.jsonl", "empty"}
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask(tmp_path)
    for run_id in ("r1", "r2"):
        assert empty.json("agent-runs", "timeline", run_id) == lab.json("agent-runs", "timeline", run_id)


def umask(folder: Path) -> int:
    (folder / "probe").touch()
    mode = (folder / "probe").stat().st_mode
    return 0o666 & ~mode


def test_exported_spans_can_be_ingested_into_another_home(empty: Lab, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    other = InProcessLab(tmp_path / "second", {})
    trace = Trace("one")
    empty.run("agent-runs", "ingest", "-", stdin=encode(trace.good(), "json"))
    ingest(empty, minimal_run("json"))

    told = empty.run(*EXPORT, "spans.jsonl", "--what", "spans")
    other.run("agent-runs", "ingest", str(empty.home / "spans.jsonl"))

    assert told.out == "The spans of 1 agent run(s) exported to spans.jsonl.\n"
    assert [run["run_id"] for run in other.json("agent-runs", "list")["items"]] == [trace.id]
    assert other.json("agent-runs", "timeline", trace.id) == empty.json("agent-runs", "timeline", trace.id)


def test_stdout_has_the_lines_of_the_file_without_control_characters(empty: Lab) -> None:
    ingest(empty, failed_run("a", error_message=HOSTILE, **{HOSTILE: HOSTILE}), minimal_run("b"))

    for what in ("runs", "items"):
        empty.run(*EXPORT, f"{what}.jsonl", "--what", what)
        piped = empty.run(*EXPORT, "-", "--what", what)

        assert lines_of(piped.out) == lines_of((empty.home / f"{what}.jsonl").read_bytes())
        assert not OBEYED.search(piped.out)
        assert "2 agent run(s) exported." in piped.err
    assert lines_of(piped.out) != []


def test_parquet_to_a_file_and_to_stdout(lab: Lab, tmp_path: Path) -> None:
    path, piped = tmp_path / "items.parquet", tmp_path / "piped.parquet"
    options = ("--format", "parquet", "--what", "items")

    found = lab.json(*EXPORT, str(path), *options)
    with piped.open("wb") as file:
        subprocess.run(
            [sys.executable, "-W", "error", "-m", "relab", *EXPORT, "-", *options],
            env=lab_environment(lab.home),
            stdout=file,
            check=True,
        )

    assert found == {"output": str(path), "format": "parquet", "what": "items", "runs": 2}
    with duckdb.connect() as connection:
        for made in (path, piped):
            statement = "SELECT run_id, ref_id FROM read_parquet(?) ORDER BY ALL"
            rows = connection.execute(statement, [str(made)]).fetchall()
            assert rows == [("r1", "c1"), ("r1", "g1"), ("r1", "s1"), ("r1", "s2")]
    assert {item.name for item in tmp_path.iterdir()} == {"items.parquet", "piped.parquet"}


def test_filters_select_the_exported_runs(lab: Lab) -> None:
    def exported(*options: str) -> list[str]:
        return [run["run_id"] for run in lines_of(lab.run(*EXPORT, "-", *options).out)]

    assert exported("--agent", "other") == ["r2"]
    assert exported("--version", "2.1.0", "--status", "failure", "--environment", "prod") == ["r1"]
    assert exported("--since", "2024-01-15T10:30:00Z", "--until", "1h") == ["r1", "r2"]
    assert exported("--since", "30d") == exported("--until", "2024-01-15T10:30:00Z") == []
    assert exported("--conversation", "none") == exported("--category", "none") == []


def test_existing_file_is_kept_unless_forced(lab: Lab, tmp_path: Path) -> None:
    path, link = tmp_path / "runs.jsonl", tmp_path / "link"
    path.write_text("mine")
    link.symlink_to(path)

    refused = lab.run(*EXPORT, str(link), code=EXIT_FAILED)

    assert "exists already. Use --force" in refused.err
    assert path.read_text() == "mine"
    lab.run(*EXPORT, str(link), "--force")
    assert link.is_symlink()
    assert len(lines_of(path.read_bytes())) == 2


def test_an_export_that_fails_leaves_everything_as_it_was(empty: Lab) -> None:
    ingest(empty, minimal_run("a"), minimal_run("b"))
    with sqlite3.connect(empty.home / "relab.db") as connection:
        connection.execute("UPDATE agent_runs SET data = 'broken' WHERE run_id = 'b'")
    connection.close()
    kept = empty.home / "kept.parquet"
    kept.write_text("mine")
    before = {item.name for item in empty.home.iterdir()}

    empty.run(*EXPORT, "new.parquet", "--format", "parquet", code=EXIT_INTERNAL)
    empty.run(*EXPORT, "kept.parquet", "--format", "parquet", "--force", code=EXIT_INTERNAL)

    assert {item.name for item in empty.home.iterdir()} == before
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-", "--json"], EXIT_USAGE, "stdout"),
        (["no/such/folder/x.jsonl"], EXIT_USAGE, "There is no folder no/such/folder."),
        (["."], EXIT_USAGE, "not a regular file"),
        (["/dev/null", "--force"], EXIT_USAGE, "not a regular file"),
        (["x" * 300], EXIT_UNAVAILABLE, "cannot be written: File name too long."),
        (["x", "--since", "yesterday"], EXIT_USAGE, "--since: 'yesterday' is not an RFC 3339 time"),
        (["x", "--until", "6m"], EXIT_USAGE, "12h, 30d, 8w"),
        (["x", "--format", "csv"], EXIT_USAGE, "csv"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_impossible_export_is_rejected_at_once(empty: Lab, arguments: list[str], code: int, says: str) -> None:
    outcome = empty.run(*EXPORT, *arguments, code=code)

    assert says in outcome.err + outcome.out
    assert "Traceback" not in outcome.err
    assert not (empty.home / "x").exists()


def test_parquet_without_its_extra_names_the_install_command(empty: Lab, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "duckdb.py").write_text("raise ImportError")
    bare = InProcessLab(empty.home, {"PYTHONPATH": str(tmp_path / "hidden")})

    outcome = bare.run(*EXPORT, "x", "--format", "parquet", code=EXIT_UNAVAILABLE)

    assert "pip install duckdb" in outcome.err
    assert bare.run(*EXPORT, "x").out == "0 agent run(s) exported to x.\n"


def test_closed_pipe_ends_a_command_as_sigpipe_ends_other_programs(empty: Lab) -> None:
    ingest(empty, *[minimal_run(f"r{number}", error_message="x" * 100_000) for number in range(10)])
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "relab", *EXPORT, "-"],
        env=lab_environment(empty.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10) == b'{"agent_na'
        process.stdout.close()
        said = process.stderr.read()

    assert process.returncode == EXIT_CLOSED_PIPE
    assert said == b""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["agent-runs", "list"], EXIT_CLOSED_PIPE),
        (["agent-runs", "list", "--json"], 0),
        (["agent-runs", "show", "absent"], EXIT_FAILED),
        (["--help"], EXIT_CLOSED_PIPE),
    ],
    ids=["table", "json", "error", "help"],
)
def test_closed_pipe_is_not_reported_as_a_failed_command(empty: Lab, arguments: list[str], code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "relab", *arguments],
            env=lab_environment(empty.home) | {"PYTHONUNBUFFERED": ""},
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)

    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


def test_command_without_stderr_does_its_work(empty: Lab) -> None:
    script = 'exec "$@" 2>&-'
    command = ["sh", "-c", script, "sh", sys.executable, "-m", "relab", "agent-runs", "list", "--json"]
    done = subprocess.run(command, env=lab_environment(empty.home), stdout=subprocess.PIPE, check=False)

    assert done.returncode == 0
    assert json.loads(done.stdout)["items"] == []
