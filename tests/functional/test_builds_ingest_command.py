"""`lab builds ingest`: logs and JUnit XML become builds, once each; bad files are named and skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.builds.logs import as_github_step, recorded
from support.lab.cli import Lab

SHA = "0123456789abcdef0123456789abcdef01234567"
GITLAB = (
    "Running with gitlab-runner 16.0.1 (79704081)\n"
    f"Checking out {SHA[:8]} as detached HEAD (ref is main)...\n"
    "section_start:1714557600:step_script\r\x1b[0K$ make\n"
    "section_end:1714557642:step_script\r\x1b[0K\n"
    "\x1b[32;1mJob succeeded\x1b[0;m\n"
)
JUNIT = (
    '<testsuites><testsuite name="s" time="2.5" timestamp="2024-05-01T10:00:00"><testcase classname="a" name="b" time="1">'
    '<failure message="expected 3">trace</failure></testcase></testsuite></testsuites>'
)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path, {})


def test_log_of_github_becomes_a_failed_build_with_its_lines(lab: Lab, tmp_path: Path) -> None:
    checkout = f"Syncing repository: octo/engine\n[command]/usr/bin/git log -1 --format=%H\n{SHA}\n"
    log = as_github_step("make", checkout + recorded("gcc_undeclared"))
    (tmp_path / "job.txt").write_text(log)

    (item,) = lab.json("builds", "ingest", str(tmp_path / "job.txt"), "--job", "test")["items"]
    build = lab.json("builds", "show", item["build_id"])["build"]

    assert item["outcome"] == "recorded"
    assert build["project"] == "octo/engine"
    assert build["origin"]["kind"] == "github"
    assert build["origin"]["commit"] == SHA
    assert build["origin"]["job"] == "test"
    assert build["started_at"] == "2024-05-01T10:00:00.123456Z"
    assert build["result"]["status"] == "failed"
    assert build["result"]["duration_s"] > 0
    assert build["result"]["peak_memory_mb"] is None
    assert "undeclared" in build["result"]["error"]
    assert any("undeclared" in line["text"] for line in build["relevant_lines"])
    assert build["input_digest"] is not None


def test_log_of_gitlab_and_junit_report_their_own_times(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "1.log").write_text(GITLAB)
    (tmp_path / "logs" / "2.xml").write_text(JUNIT)

    printed = lab.run("builds", "ingest", str(tmp_path / "logs"), "--project", "engine").out
    junit, gitlab = lab.json("builds", "list", "--project", "engine")["items"]

    assert "2 files: 2 recorded, 0 known already, 0 rejected (1 failed, 1 success)." in printed
    assert gitlab["origin"]["kind"] == "gitlab"
    assert gitlab["origin"]["commit"] == SHA[:8]
    assert gitlab["origin"]["branch"] == "main"
    assert gitlab["result"]["duration_s"] == 42
    assert junit["origin"]["kind"] == "junit"
    assert junit["result"]["duration_s"] == 2.5
    assert junit["started_at"] == "2024-05-01T10:00:00Z"
    assert junit["result"]["error"] == "a::b: expected 3"


def test_known_file_keeps_the_status_that_it_was_recorded_with(lab: Lab, tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("make: *** [all] Error 2\n")
    lab.json("builds", "ingest", str(log), "--status", "failed")

    (again,) = lab.json("builds", "ingest", str(log), "--status", "success")["items"]

    assert again["outcome"] == "known"
    assert again["status"] == "failed"


def test_same_file_is_one_build(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("make: *** [all] Error 2\n")
    (tmp_path / "b.log").write_text("make: *** [all] Error 2\n")

    first = lab.json("builds", "ingest", str(tmp_path / "a.log"))["items"][0]
    second = lab.json("builds", "ingest", str(tmp_path / "b.log"))["items"][0]
    other = lab.json("builds", "ingest", str(tmp_path / "b.log"), "--project", "other")["items"][0]

    assert first["outcome"] == "recorded"
    assert second["outcome"] == "known"
    assert second["build_id"] == first["build_id"]
    assert other["outcome"] == "recorded"
    assert len(lab.json("builds", "list")["items"]) == 2


def test_plain_log_has_unknown_status_and_duration_unless_they_are_given(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "plain.log").write_text("compiling\nlinking\n")

    (unknown,) = lab.json("builds", "ingest", str(tmp_path / "plain.log"))["items"]
    (given,) = lab.json("builds", "ingest", str(tmp_path / "plain.log"), "--project", "p", "--status", "failed")[
        "items"
    ]
    build = lab.json("builds", "show", unknown["build_id"])["build"]

    assert build["result"]["status"] == "unknown"
    assert build["result"]["duration_s"] is None
    assert given["status"] == "failed"
    assert "unknown" in lab.run("builds", "list").out
    assert "recorded from  log" in lab.run("builds", "show", unknown["build_id"]).out


def test_bad_files_are_named_and_the_others_ingested(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "1_empty.log").write_text("")
    (folder / "2_image.png").write_bytes(b"\x89PNG\x00\x00\x1b[31m")
    (folder / "3_bomb.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><testsuite/>')
    (folder / "4_good.log").write_text("Finished: SUCCESS\n")

    done = lab.run("builds", "ingest", str(folder), code=1)

    assert "1_empty.log: The log is empty." in done.err
    assert "2_image.png: The file is binary" in done.err
    assert "3_bomb.xml: The XML is not accepted (line 1): it declares a document type" in done.err
    assert "4 files: 1 recorded, 0 known already, 3 rejected (1 success)." in done.out
    assert len(lab.json("builds", "list")["items"]) == 1


@pytest.mark.full
def test_folder_of_a_thousand_files_prints_a_summary(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for number in range(1_000):
        (folder / f"{number:04}.log").write_text(
            f"build {number}\nFinished: {'SUCCESS' if number % 10 else 'FAILURE'}\n"
        )

    (printed,) = lab.run("builds", "ingest", str(folder)).out.splitlines()

    assert printed == "1,000 files: 1,000 recorded, 0 known already, 0 rejected (100 failed, 900 success)."


def test_log_from_stdin_is_shown_without_secrets_and_escapes(lab: Lab) -> None:
    log = "\x1b[31mDB_PASSWORD=hunter2hunter2\x1b[0m\x1b]0;title\x07\nERROR: cannot log in with password=hunter2hunter2\nFinished: FAILURE\n"

    build_id = lab.run("builds", "ingest", "-", stdin=log).out.split()[0]
    shown = lab.run("builds", "show", build_id, "--log").out

    assert "hunter2" not in shown
    assert "[masked]" in shown
    assert "\x1b" not in shown


def test_mistakes_on_the_command_line_are_usage_errors(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    assert "There is no file or folder" in lab.run("builds", "ingest", str(tmp_path / "missing"), code=64).err
    assert "contains no file" in lab.run("builds", "ingest", str(tmp_path / "empty"), code=64).err
    assert "not the status" in lab.run("builds", "ingest", "-", "--status", "running", code=64).err
    assert "--commit" in lab.run("builds", "ingest", "-", "--commit", "", code=64).err
    assert "--url" in lab.run("builds", "ingest", "-", "--url", "javascript:alert(1)", code=64).err


def test_link_out_of_a_folder_is_not_followed(lab: Lab, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("password of the machine\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "job.log").write_text("make: *** [all] Error 1\n")
    (logs / "link.log").symlink_to(secret)
    (logs / "again.log").symlink_to(logs / "job.log")

    items = lab.run("builds", "ingest", str(logs), "--project", "p", "--json", code=1).json["items"]

    assert {Path(item["origin"]).name: item["outcome"] for item in items} == {
        "again.log": "recorded",
        "job.log": "known",
        "link.log": "rejected",
    }
    assert "outside of the folder" in next(item["reason"] for item in items if item["outcome"] == "rejected")


def test_log_in_utf_16_is_recorded_as_text(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "job.log").write_text(recorded("gcc_undeclared"), encoding="utf-16")

    (item,) = lab.json("builds", "ingest", str(tmp_path / "job.log"), "--project", "p", "--status", "failed")["items"]
    shown = lab.json("builds", "show", item["build_id"], "--log")

    assert "undeclared" in shown["log"]
    assert "\x00" not in shown["log"]


def test_log_whose_first_megabytes_are_blank_is_not_empty(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "job.log").write_text(" " * 3_000_000 + "\nmake: *** [all] Error 1\n")

    (item,) = lab.json("builds", "ingest", str(tmp_path / "job.log"), "--project", "p")["items"]

    assert (item["outcome"], item["status"]) == ("recorded", "failed")
