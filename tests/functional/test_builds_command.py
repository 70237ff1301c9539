"""`lab builds`: the lines it prints, its exit codes, and the end of a build whose process is killed."""

from __future__ import annotations

import fcntl
import json
import signal
from pathlib import Path

from rig.waiting import wait_until
from support.builds.projects import write_project
from support.lab.cli import Lab
from support.lab.process import LabProcess


def test_failed_build_is_printed_listed_and_shown(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    write_project(tmp_path / "project", "printf '\\033[31mcannot find -lz\\033[0m\\n'; exit 2\n", sandbox="local")

    printed = lab.run("builds", "run", "project", code=1).out
    (listed,) = lab.json("builds", "list", "--status", "failed")["items"]
    shown = lab.run("builds", "show", listed["build_id"], "--log").out

    assert printed.startswith("[Monitor]  -> {'status': 'failed', 'duration': ")
    assert "'error': 'Exit code 2: cannot find -lz'}" in printed
    assert listed["result"]["failure"] == "exit_code"
    assert "build.yaml asks for it" in shown
    assert "\\x1b[31mcannot find -lz" in shown
    assert "\x1b" not in shown


def test_pass_prints_the_lines_of_the_seed(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    script = 'if [ -n "$CACHE" ]; then exit 0; fi; echo "error: it needs the cache"; exit 1\n'
    write_project(tmp_path / "project", script, sandbox="local")

    first, chosen, why, last = lab.run(
        "builds", "run", "project", "--set", "retries=1", "--policy", "fixed:1"
    ).out.splitlines()

    assert first.startswith("[Monitor]  -> {'status': 'failed', 'duration': ")
    assert first.endswith(", 'error': 'Exit code 1: error: it needs the cache'}")
    assert chosen == "[Optimizer] -> {'action_id': 1, 'action_description': 'use cache'}"
    assert why == "  why: the policy prefers it (probability 1.000); it is untried after a failure of this kind"
    assert last.startswith("[Monitor]  -> {'status': 'success', ")
    assert "use cache" in lab.run("builds", "simulator").out
    assert "0 decisions" in lab.run("builds", "policies", "nothing", code=1).err


def test_failed_pass_ends_with_a_suggestion_and_the_lines_that_show_the_failure(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    script = "echo compiling; printf '\\033[31mfatal error: No space left on device\\033[0m\\n'; exit 1\n"
    write_project(tmp_path / "project", script, sandbox="local")

    monitor, responder, quote, judge = lab.run("builds", "run", "project", code=1).out.splitlines()
    printed = json.loads(lab.run("builds", "run", "project", "--json", code=1).out)["fix"]

    assert monitor.startswith("[Monitor]  -> ")
    assert responder.startswith("[Responder] -> {'suggestion': \"Free the runner's disk")
    assert quote == "  line 2: fatal error: No space left on device"
    assert judge.startswith("  Did it help? lab builds accept|reject ")
    assert printed["incident"] == "disk_full"
    assert printed["quotes"] == [{"number": 2, "text": "fatal error: No space left on device"}]


def test_suggestion_is_listed_rejected_and_no_longer_made(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    write_project(tmp_path / "project", "echo 'fatal error: No space left on device'; exit 1\n", sandbox="local")
    for _ in range(2):
        made = json.loads(lab.run("builds", "run", "project", "--json", code=1).out)["fix"]["suggestion_id"]
        said = lab.run("builds", "reject", made, "--note", "a quota \x1b[2Jwas reached").out
    (first, second) = lab.json("builds", "suggestions", "tiny", "--status", "rejected")["items"]
    repeated = lab.json("builds", "reject", made)["suggestion"]

    withheld = json.loads(lab.run("builds", "run", "project", "--json", code=1).out)["fix"]
    table = lab.run("builds", "suggestions", "--limit", "1").out

    assert said.startswith("rejected by ")
    assert "a quota" in said
    assert "\x1b" not in said
    assert (first["suggestion_id"], first["project"], first["incident"]) == (made, "tiny", "disk_full")
    assert first["build_id"] != second["build_id"]
    assert repeated == first
    assert not withheld["is_known"]
    assert "it was rejected for them" in withheld["suggestion"]
    assert withheld["suggestion_id"] in table
    assert "More suggestions: --before " in table
    assert "There are: tiny." in lab.run("builds", "suggestions", "nothing", code=1).err
    assert "There is no suggestion 'none'" in lab.run("builds", "accept", "none", code=1).err
    assert "open | accepted | rejected" in lab.run("builds", "suggestions", "--status", "x", code=64).err
    assert "at most 1,000" in lab.run("builds", "accept", made, "--note", "x" * 1_001, code=64).err


def test_pass_with_an_unknown_failure_prints_that_no_fix_is_known(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    write_project(tmp_path / "project", "echo 'error: the frobnicator is unhappy'; exit 1\n", sandbox="local")

    out = lab.run("builds", "run", "project", code=1).out

    assert "[Responder] -> {'suggestion': 'No known failure has these lines, so no fix is suggested." in out
    assert "  line 1: error: the frobnicator is unhappy" in out


def test_server_of_builds_alone_has_the_routes_of_the_seed(tmp_path: Path) -> None:
    with LabProcess.serve(tmp_path, "--only", "builds") as server, server.client() as client:
        assert {"status", "duration", "error"} <= client.get("/simulate_build").json().keys()
        assert {"action_id", "action_description"} <= client.post("/get_best_action").json().keys()
        assert client.post("/suggest_fix", json={"error": "Out of memory during build"}).json()["suggestion"]
        assert "relab_build_decisions" in client.get("/metrics").text
        assert client.get("/agent-runs").status_code == 404


def test_mistakes_on_the_command_line_are_usage_errors(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    write_project(tmp_path / "project", "exit 0\n", sandbox="local")

    assert "KNOB=VALUE" in lab.run("builds", "run", "project", "--set", "cache", code=64).err
    assert "'slow'" in lab.run("builds", "run", "project", "--set", "tests=slow", code=64).err
    assert "no policy 'ppo'" in lab.run("builds", "watch", "project", "--policy", "ppo", "--passes", "1", code=64).err
    assert "not a status" in lab.run("builds", "list", "--status", "red", code=64).err
    assert "There is no build" in lab.run("builds", "show", "missing", code=1).err


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_build_of_a_killed_process_is_ended_and_recorded_as_interrupted(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    script = "if [ -e ../../../stop ]; then exit 0; fi; exec 9>../held; flock 9; while :; do sleep 1; done\n"
    write_project(tmp_path / "project", script, sandbox="local")
    process = LabProcess("builds", "run", str(tmp_path / "project"), home=tmp_path)
    process.start(wait=False)
    try:
        (held,) = wait_until(lambda: list(tmp_path.glob("builds/*/held")), what="the file of the lock")
        # The build creates the file before it locks it.
        wait_until(lambda: is_locked(held), what="the build to hold its lock")
        process.kill()
        assert is_locked(held)

        assert [build["result"]["status"] for build in lab.json("builds", "list")["items"]] == ["interrupted"]
        # The kernel releases the lock of a killed process a moment after the process has lost its memory.
        wait_until(lambda: not is_locked(held), what="the end of the build")
        (tmp_path / "stop").touch()
        lab.run("builds", "run", "project")
    finally:
        process.destroy()

    assert [build["result"]["status"] for build in lab.json("builds", "list")["items"]] == ["success", "interrupted"]


def test_failed_pass_is_explained_by_root_cause_analysis(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    write_project(tmp_path / "project", "echo 'error: Connection refused by registry'; exit 1\n", sandbox="local")

    lab.run("builds", "run", "project", code=1)
    (build,) = lab.json("builds", "list")["items"]
    shown = lab.run("builds", "show", build["build_id"]).out
    report = lab.run("rca", f"build.{build['build_id']}").out

    assert f"agent run  build.{build['build_id']}" in shown
    assert "Connection refused by registry" in report


def test_watch_prints_the_lines_of_each_pass_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    script = 'if [ -n "$CACHE" ]; then exit 0; fi; echo "error: it needs the cache"; exit 1\n'
    write_project(tmp_path / "project", script, sandbox="local")
    watch = (
        "builds",
        "watch",
        str(tmp_path / "project"),
        "--interval",
        "0",
        "--set",
        "retries=1",
        "--policy",
        "fixed:1",
    )
    process = LabProcess(*watch, home=tmp_path)
    process.start(wait=False)
    try:
        wait_until(lambda: process.log().count("[Optimizer] -> ") >= 2, what="two passes")
        process.send(signal.SIGINT)
        code = process.wait()
    finally:
        process.destroy()

    first, chosen, why, mended, *_ = process.log().splitlines()
    assert code == 0
    assert first.startswith("[Monitor]  -> {'status': 'failed', ")
    assert chosen == "[Optimizer] -> {'action_id': 1, 'action_description': 'use cache'}"
    assert why.startswith("  why: the policy prefers it (probability 1.000); ")
    assert mended.startswith("[Monitor]  -> {'status': 'success', ")
    assert "Traceback" not in process.log()


def test_watch_prints_one_json_object_per_line_and_survives_a_failing_pass(tmp_path: Path) -> None:
    lab = Lab(tmp_path, {})
    # The build damages its own build file, so the next pass cannot read it.
    write_project(tmp_path / "project", f"echo broken > {tmp_path}/project/build.yaml\n", sandbox="local")

    printed = lab.run("builds", "watch", "project", "--interval", "0", "--passes", "2", "--json").out

    first, second = (json.loads(line) for line in printed.splitlines())
    assert first["ok"] is True
    assert first["number"] == 1
    assert first["builds"][0]["result"]["status"] == "success"
    assert first["agent_run_id"] == f"build.{first['builds'][0]['build_id']}"
    assert second["ok"] is False
    assert second["number"] == 2
    assert second["error"]["code"] == "build_file_invalid"
    assert "not KNOB=VALUE" in lab.run("builds", "watch", "project", "--set", "cache", code=64).err
    assert lab.run("builds", "watch", "missing", code=64).err
