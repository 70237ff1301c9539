"""The files that `lab agent-runs ingest` reads: one document, a list, or one document per line."""

from __future__ import annotations

import json
from pathlib import Path

from support.lab.cli import Lab
from support.telemetry.runs import minimal_run
from support.telemetry.seeds import FIXTURES


def lines_of(*documents: object) -> str:
    return "".join(f"{json.dumps(document)}\n" for document in documents)


def test_file_of_the_collectors_file_exporter_is_ingested(empty: Lab) -> None:
    exported = FIXTURES / "otlp_file_exporter.json"
    found = empty.json("agent-runs", "ingest", str(exported))

    assert found["rejected"] == 0
    assert [item["origin"] for item in found["items"]] == [f"{exported}:{number}" for number in (1, 2, 3)]


def test_lines_of_an_export_are_ingested_from_standard_input(empty: Lab) -> None:
    found = empty.json("agent-runs", "ingest", "-", stdin=lines_of(minimal_run("r1"), minimal_run("r2")))

    assert [item["run_id"] for item in found["items"]] == ["r1", "r2"]


def test_last_line_that_was_not_written_completely_is_rejected_alone(empty: Lab, tmp_path: Path) -> None:
    file = tmp_path / "runs.json"
    file.write_text(lines_of(minimal_run("r1"), minimal_run("r2"))[:-20])
    done = empty.run("agent-runs", "ingest", str(file), code=1)

    assert done.out == "1 created, 0 updated, 1 rejected.\n"
    assert f"rejected {file}:2: The body is not valid JSON" in done.err


def test_document_over_several_lines_with_a_mistake_is_one_rejected_document(empty: Lab, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(minimal_run("r1"), indent=2)[:-1] + ",}")
    done = empty.run("agent-runs", "ingest", str(file), code=1)

    assert done.out == "0 created, 0 updated, 1 rejected.\n"
    assert f"rejected {file}: The body is not valid JSON" in done.err


def test_document_that_is_too_large_does_not_affect_the_others(empty: Lab, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"resourceSpans": [{}] * 10_001}))
    (tmp_path / "b.json").write_text(json.dumps(minimal_run("r1")))
    done = empty.run("agent-runs", "ingest", str(tmp_path), code=1)

    assert done.out == "1 created, 0 updated, 1 rejected.\n"
    assert f"rejected {tmp_path / 'a.json'}: The request contains more than 100,000 spans" in done.err
