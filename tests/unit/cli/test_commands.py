"""The commands of `lab`: their output as tables and as JSON, and their exit codes."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from relab.bootstrap import Services, build
from relab.core.errors import NotFoundError
from relab.settings import load_settings
from relab.telemetry.ingest.reading import check_agent_run
from support.lab.cli import Lab
from support.lab.in_process import InProcessLab
from support.telemetry.runs import failed_run, minimal_run

EXIT_FAILED, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_INTERRUPTED = 1, 64, 69, 130


def test_help_of_the_ceiling_of_costs_names_reported_and_estimated_cost(empty: Lab) -> None:
    shown = " ".join(empty.run("run", "--help").out.replace("│", " ").split())

    assert "cost_usd, or estimated_cost_usd of attempts without it" in shown


def test_help_and_version_need_no_home(empty: Lab) -> None:
    shown = empty.run("--help").out

    for name in ("serve", "worker", "rca", "metrics", "doctor", "agent-runs", "flags", "jobs", "db", "auth"):
        assert f"  {name} " in shown
    assert empty.run("--version").out.startswith("relab ")
    assert list(empty.home.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["agent-runs"],
        ["agent-runs", "list", "--limit", "0"],
        ["agent-runs", "list", "--status", "odd"],
        ["agent-runs", "ingest", "no-such-file"],
        ["agent-runs", "ingest", "/proc/self/mem"],
        ["inspect", "import", "/proc/self/mem"],
        ["agent-runs", "ingest", "x" * 300],
        ["builds", "ingest", "x" * 300],
        ["verify", "x" * 300],
        ["open", ""],
        ["metrics", "--hours", "nan"],
        ["worker", "--lanes", "interactive,slow"],
        ["rca"],
        ["auth", "create-token", "--name", "x", "--scope", "everything"],
        ["auth", "create-token", "--name", "x" * 201, "--scope", "read"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_64_and_a_message_on_stderr(empty: Lab, arguments: list[str]) -> None:
    outcome = empty.run(*arguments, code=EXIT_USAGE)

    assert outcome.err.strip()
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_error_about_an_unknown_choice_names_it_and_the_choices(empty: Lab, as_json: list[str]) -> None:
    outcome = empty.run("rca", "run-1", "--judge", "odd", *as_json, code=EXIT_USAGE)

    assert "Invalid value for '--judge': 'odd' is not one of 'off', " in outcome.out + outcome.err


def test_files_folders_and_stdin_are_ingested(empty: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    (folder / "deeper").mkdir(parents=True)
    (folder / "one.json").write_text(json.dumps(minimal_run("one")))
    (folder / "deeper" / "two.json").write_text(json.dumps([minimal_run("two"), minimal_run("three")]))
    lines = [json.dumps(minimal_run("four")), "", json.dumps(minimal_run("five", steps="none")), "{"]
    (folder / "lines.jsonl").write_text("\n".join(lines))
    (folder / "not-a-file.json").mkdir()
    (folder / "ignored.txt").write_text("x")

    outcome = empty.run("agent-runs", "ingest", str(folder), "--json", code=EXIT_FAILED)
    again = empty.run("agent-runs", "ingest", str(folder / "one.json"))
    piped = empty.run("agent-runs", "ingest", "-", stdin=json.dumps(minimal_run("six")))

    assert outcome.json["rejected"] == 2
    outcomes = {item["origin"].removeprefix(str(folder)): item["outcome"] for item in outcome.json["items"]}
    assert outcomes == {
        "/one.json": "created",
        "/deeper/two.json[0]": "created",
        "/deeper/two.json[1]": "created",
        "/lines.jsonl:1": "created",
        "/lines.jsonl:3": "rejected",
        "/lines.jsonl:4": "rejected",
    }
    assert "steps" in next(item["reason"] for item in outcome.json["items"] if item["origin"].endswith(":3"))
    assert again.out == "0 created, 1 updated, 0 rejected.\n"
    assert piped.out == "1 created, 0 updated, 0 rejected.\n"
    listed = {run["run_id"] for run in empty.json("agent-runs", "list")["items"]}
    assert listed == {"one", "two", "three", "four", "six"}


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"[1, null, {}]"])
def test_unreadable_input_is_refused_with_a_reason(lab: Lab, raw: bytes) -> None:
    outcome = lab.run("agent-runs", "ingest", "-", stdin=raw, code=EXIT_FAILED)

    assert "rejected stdin" in outcome.err
    assert outcome.out.startswith("0 created, 0 updated, ")


def test_runs_are_listed_shown_and_replayed(lab: Lab) -> None:
    listed = lab.json("agent-runs", "list", "--agent", "shop-agent", "--status", "failure", "--text", "CUSTOMER_id")
    shown = lab.json("agent-runs", "show", "r1")
    replayed = lab.json("agent-runs", "timeline", "r1", "--limit", "3")

    assert [run["run_id"] for run in listed["items"]] == ["r1"]
    assert shown["run"]["run_id"] == "r1"
    assert shown["run"]["counts"]["steps"] == 2
    assert [item["ref_id"] for item in replayed["items"]] == ["s1", "s2", "c1"]
    assert replayed["total"] == 4
    assert replayed["next_cursor"]


def test_output_without_json_is_a_table(lab: Lab) -> None:
    assert "shop-agent" in lab.run("agent-runs", "list").out
    assert "Tool schema validation failed" in lab.run("agent-runs", "show", "r1").out
    timeline = lab.run("agent-runs", "timeline", "r1").out
    assert timeline.index("s1") < timeline.index("s2") < timeline.index("g1")
    assert "Missing required field: 'customer_id'" in timeline


def test_unknown_id_is_a_failure(lab: Lab) -> None:
    outcome = lab.run("agent-runs", "show", "nope", "--json", code=EXIT_FAILED)

    assert outcome.json["ok"] is False
    assert outcome.json["error"]["code"] == "agent_run_not_found"
    assert "nope" in lab.run("rca", "nope", code=EXIT_FAILED).err


def test_analysis_is_done_without_a_worker(lab: Lab) -> None:
    done = lab.json("rca", "r1")
    again = lab.json("rca", "r1")
    forced = lab.run("rca", "r1", "--force", "--follow", "--full").out

    assert done["status"] == "done"
    assert done["report"]["category"] == "tool_schema_mismatch"
    assert again["rca_run_id"] == done["rca_run_id"]
    assert [line for line in forced.splitlines() if " %  " in line] == [
        "  5 %  Starting RCA",
        " 30 %  Collecting evidence",
        " 55 %  Classifying failure",
        " 85 %  Generating report",
        "100 %  RCA complete",
    ]
    assert "tool_schema_mismatch" in forced
    assert "ev_tool_c1" in forced
    assert len(lab.json("agent-runs", "show", "r1")["rca_runs"]) == 2


def test_metrics_are_those_of_the_window(lab: Lab) -> None:
    ever = lab.json("metrics", "--hours", "10000000")

    assert ever["total_runs"] == 2
    assert ever["success_rate"] == 50.0
    assert ever["top_failing_tools"] == [{"tool": "order_lookup", "count": 1}]
    assert "order_lookup" in lab.run("metrics", "--hours", "10000000").out


def services_of(lab: Lab) -> Services:
    """Return the services of a home in this process, for data and state that no command reaches."""
    services = build(load_settings(lab.home))
    services.prepare()
    return services


def test_a_deleted_run_leaves_no_analysis_also_without_a_worker(empty: Lab) -> None:
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(failed_run("a")))
    rca_run_id = empty.json("rca", "a")["rca_run_id"]
    labelled = empty.json("agent-runs", "list", "--category", "tool_schema_mismatch")["items"]

    empty.run("agent-runs", "delete", "a", "--yes")

    assert [run["run_id"] for run in labelled] == ["a"]
    services = services_of(empty)
    with pytest.raises(NotFoundError):
        services.rca.get(rca_run_id)
    assert services.queue.counts().pending == 0
    services.close()


def test_jobs_are_listed_and_dropped(empty: Lab) -> None:
    services = services_of(empty)
    services.telemetry.ingest(check_agent_run(failed_run("a")))
    job_id = services.rca.request("a").rca_run_id
    services.close()

    listed = empty.json("jobs", "list", "--status", "pending")
    refused = empty.run("jobs", "retry", job_id, code=EXIT_FAILED)
    dropped = empty.json("jobs", "drop", job_id)
    again = empty.json("rca", "a")

    assert listed["counts"]["pending"] == 1
    assert [job["job_id"] for job in listed["items"]] == [job_id]
    assert "parked" in refused.err
    assert dropped["job_ids"] == [job_id]
    assert again["status"] == "done"
    assert again["rca_run_id"] != job_id, "a dropped analysis is not waited for"
    empty.run("jobs", "drop", job_id, code=EXIT_FAILED)


def test_tokens_are_made_listed_and_revoked(empty: Lab) -> None:
    made = empty.json("auth", "create-token", "--name", "ci [bold]", "--scope", "read", "--scope", "ingest")
    plain = empty.run("auth", "create-token", "--name", "other", "--scope", "admin", "--expires-in-days", "1")
    listed = empty.json("auth", "list")["items"]
    table = empty.run("auth", "list").out
    empty.run("auth", "revoke", made["token_id"])

    assert made["scopes"] == ["ingest", "read"]
    assert plain.out.strip().startswith("relab_")
    assert "shown only once" in plain.err
    assert [token["name"] for token in listed] == ["ci [bold]", "other"]
    secrets = [made["token"].split("_", 2)[2], plain.out.strip().split("_", 2)[2]]
    assert "ci [bold]" in table
    assert not any(secret in text for secret in secrets for text in (table, json.dumps(listed)))
    assert empty.json("auth", "list")["items"][0]["revoked_at"]
    for file in empty.home.iterdir():
        assert not any(secret.encode() in file.read_bytes() for secret in secrets), file


def test_the_state_of_access_is_shown_and_reopened_only_on_purpose(empty: Lab) -> None:
    def stated() -> list[str]:
        found = [empty.run("auth", "status").out.split()[0], empty.run("auth", "list").out.splitlines()[-1].split()[0]]
        row = next(check for check in empty.json("doctor")["checks"] if check["name"] == "access")
        return [*found, row["found"].split(":")[0].split(",")[0].capitalize()]

    before = stated()
    token_id = empty.json("auth", "create-token", "--name", "ci", "--scope", "read")["token_id"]
    valid = empty.json("auth", "status")
    in_use = empty.run("auth", "reopen", "--yes", code=EXIT_FAILED)
    empty.run("auth", "revoke", token_id)
    after = [text.rstrip(":,") for text in stated()]
    unanswered = empty.run("auth", "reopen", code=EXIT_USAGE)
    declined = empty.run("auth", "reopen", stdin="n\n", code=EXIT_INTERRUPTED)
    still = empty.json("auth", "status")
    empty.run("auth", "reopen", stdin="y\n")

    assert [text.rstrip(":") for text in before] == ["Open", "Open", "Open"]
    assert valid["open"] is False
    assert valid["valid_tokens"] == 1
    assert "1 token(s) can still be used" in in_use.err
    assert after == ["Closed", "Closed", "Closed"]
    assert "without a token?" in unanswered.err
    assert "--yes" in unanswered.err
    assert "without a token?" in declined.err
    assert still["open"] is False
    assert still["valid_tokens"] == 0
    assert empty.json("auth", "status")["open"] is True
    events = empty.json("auth", "history")["items"]
    assert [event["kind"] for event in events] == ["reopened", "token_revoked", "token_created"]
    assert all("@" in event["actor"] for event in events)
    assert [event["token_id"] for event in events] == [None, token_id, token_id]


def test_the_schema_is_checked_and_migrated(empty: Lab) -> None:
    missing = empty.run("db", "check", "--json", code=EXIT_FAILED).json
    upgraded = empty.run("db", "upgrade").out
    current = empty.json("db", "check")
    empty.run("db", "downgrade", "base", stdin="n\n", code=EXIT_INTERRUPTED)
    empty.run("db", "downgrade", "base", "--yes")

    assert missing["state"] == "empty"
    assert "current" in upgraded
    assert current["state"] == "current"
    assert current["revision"] == current["head"]
    assert empty.run("db", "check", "--json", code=EXIT_FAILED).json["state"] == "empty"


def test_doctor_does_not_say_that_a_newer_schema_fits(empty: Lab) -> None:
    empty.run("agent-runs", "list")
    with sqlite3.connect(empty.home / "relab.db") as connection:
        connection.execute("update relab_alembic_version set version_num = '9999'")
    connection.close()

    checks = empty.run("doctor", "--json", code=EXIT_UNAVAILABLE).json["checks"]

    (row,) = [check for check in checks if check["name"] == "schema"]
    assert row["state"] == "problem"
    assert row["found"].startswith("The database ")
    assert "fits" not in row["found"]


def test_doctor_reports_present_and_missing_parts(lab: Lab) -> None:
    healthy = lab.json("doctor")
    broken = InProcessLab(
        lab.home, {"DATABASE_URL": "postgresql://relab:hunter2@127.0.0.1:9/none", "OPENAI_API_KEY": "hunter2"}
    )
    sick = broken.run("doctor", "--json", code=EXIT_UNAVAILABLE)

    assert healthy["healthy"] is True
    states = {check["name"]: check["state"] for check in healthy["checks"]}
    assert states["database"] == "ok"
    assert states["schema"] == "ok"
    assert states["queue"] == "ok"
    assert sick.json["healthy"] is False
    assert {check["name"] for check in sick.json["checks"] if check["state"] == "problem"} >= {"database"}
    assert all(check["remedy"] for check in sick.json["checks"] if check["state"] == "problem")
    assert "hunter2" not in sick.out + sick.err


def test_doctor_names_the_settings_of_a_model_that_is_not_configured(empty: Lab) -> None:
    row = next(check for check in empty.json("doctor")["checks"] if check["name"] == "language model")

    assert row["state"] == "note"
    assert "RELAB_LLM__BASE_URL" in row["remedy"]


@pytest.mark.parametrize("more", [{}, {"OPENAI_API_KEY": "k", "TARGET_API_BASE_URL": "http://127.0.0.1:9"}])
def test_doctor_names_a_provider_that_does_not_exist(empty: Lab, more: dict[str, str]) -> None:
    sick = InProcessLab(empty.home, {"RELAB_LLM__PROVIDER": "openia", **more}).run(
        "doctor", "--json", code=EXIT_UNAVAILABLE
    )

    row = next(check for check in sick.json["checks"] if check["name"] == "language model")
    assert row["state"] == "problem"
    assert "RELAB_LLM__PROVIDER is 'openia'" in row["found"]
    assert "anthropic" in row["remedy"]


def test_doctor_reports_the_receivers_of_notices(empty: Lab) -> None:
    hook = "https://hooks.example/services/T0/B0/hunter2"
    nobody = empty.json("doctor")
    told = InProcessLab(empty.home, {"RELAB_NOTICES__SLACK_WEBHOOK_URL": hook}).json("doctor")
    wrong = InProcessLab(empty.home, {"RELAB_NOTICES__SLACK_WEBHOOK_URL": "hunter2"}).run(
        "doctor", "--json", code=EXIT_UNAVAILABLE
    )

    assert next(check for check in nobody["checks"] if check["name"] == "notices")["state"] == "note"
    assert "never sent" in next(check for check in told["checks"] if check["name"] == "notices to slack")["found"]
    refused = next(check for check in wrong.json["checks"] if check["name"] == "notices")
    assert refused["state"] == "problem"
    assert "RELAB_NOTICES__SLACK_WEBHOOK_URL" in refused["found"]
    assert "hunter2" not in str(told) + wrong.out + wrong.err


def test_unreachable_database_exits_with_69(empty: Lab) -> None:
    away = InProcessLab(empty.home, {"DATABASE_URL": "postgresql://relab:hunter2@127.0.0.1:9/none"})

    outcome = away.run("agent-runs", "list", "--json", code=EXIT_UNAVAILABLE)

    assert outcome.json["error"]["code"] == "database_unavailable"
    assert "hunter2" not in outcome.out + outcome.err


@pytest.mark.parametrize("settings", [{"LOG_LEVEL": "LOUD"}, {"DATABASE_URL": "mysql://x"}], ids=str)
def test_invalid_settings_exit_with_69_and_a_message(empty: Lab, settings: dict[str, str]) -> None:
    outcome = InProcessLab(empty.home, settings).run("agent-runs", "list", code=EXIT_UNAVAILABLE)

    assert outcome.err.startswith("lab: ")
    assert "Traceback" not in outcome.err


def test_a_public_address_without_tokens_is_refused(empty: Lab) -> None:
    for host in ("0.0.0.0", "relab.example"):
        outcome = empty.run("serve", "--host", host, "--port", "0", code=EXIT_UNAVAILABLE)
        assert "create-token" in outcome.err


def test_unknown_excluded_runbook_prevents_the_start(empty: Lab) -> None:
    wrong = InProcessLab(empty.home, {"RELAB_INCIDENTS__EXCLUDED_RUNBOOKS": '["db_pool"]', "ACTION_SERVER_TOKEN": "t"})

    refused = wrong.run("serve", "--only", "incidents", "--port", "0", code=EXIT_UNAVAILABLE)
    checks = wrong.run("doctor", "--json", code=EXIT_UNAVAILABLE).json["checks"]

    assert "RELAB_INCIDENTS__EXCLUDED_RUNBOOKS" in refused.err
    assert "'db_pool'" in refused.err
    found = next(check for check in checks if check["name"] == "runbooks")
    assert found["state"] == "problem"
    assert "'db_pool'" in found["found"]
