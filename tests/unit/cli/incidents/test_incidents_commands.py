"""`lab incidents`: shows incidents, answers approval requests, and pauses, resumes and triggers the responder."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from relab.bootstrap import build
from relab.cli.incidents import app as incidents
from relab.core.clock import SystemClock
from relab.incidents.storage import log as log_module
from relab.incidents.storage.models import IncidentOutcome, NewEvent
from relab.settings import load_settings
from support.incidents.logs import MINUTE_US, opened, question
from support.lab.cli import Lab
from support.lab.in_process import InProcessLab
from support.storage.migrated import migrate

EXIT_FAILED, EXIT_USAGE, EXIT_UNAVAILABLE = 1, 64, 69
FORGED = "2026-11-25T10:00:00.000000Z other closed: The incident is resolved."
"""The text of a hostile alert after a line end, which looks like a line of the timeline."""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, str, str]:
    """Return a home, the id of a closed incident, and the id of one whose plan waits for approval."""
    lab = InProcessLab(tmp_path_factory.mktemp("home"), {})
    services = build(load_settings(lab.home))
    migrate(services.database)
    log, now_us = services.incidents.log, SystemClock().now_us()
    over = opened(log, "shop", at_us=now_us).incident_id
    log.append(over, NewEvent("looked", f"\x1b[2J hostile\n{FORGED}"), at_us=now_us)
    log.close(over, at_us=now_us, outcome=IncidentOutcome.PASSED)
    waits = opened(log, "shop", at_us=now_us + 1).incident_id
    log.approvals.request(question(waits, f"{waits}.1", asked_at=now_us, expires_at=now_us + 10 * MINUTE_US))
    services.close()
    return lab, over, waits


def test_watch_prints_the_end_of_an_incident_that_is_no_longer_among_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incidents, "NEWEST", 1)
    services = build(load_settings(tmp_path))
    migrate(services.database)
    log, now_us = services.incidents.log, SystemClock().now_us()
    old = opened(log, "shop", at_us=now_us).incident_id
    new = opened(log, "other", at_us=now_us + 1).incident_id
    log.close(new, at_us=now_us + 2, outcome=IncidentOutcome.PASSED)
    stop = threading.Event()
    limit = threading.Timer(10, stop.set)
    limit.start()

    events = incidents._of_all(services.incidents, stop)
    first = next(events)
    log.close(old, at_us=now_us + 3, outcome=IncidentOutcome.PASSED)
    last = next(events)

    limit.cancel()
    assert {first.incident_id, last.incident_id} == {old}
    assert last.seq > first.seq
    services.close()


def test_incidents_are_listed_shown_and_followed_to_their_end(known: tuple[Lab, str, str]) -> None:
    lab, over, waits = known

    listed = lab.json("incidents", "list", "--status", "closed")
    shown = lab.json("incidents", "show", waits)
    told = lab.run("incidents", "show", over).out
    followed = [json.loads(line) for line in lab.run("incidents", "watch", over, "--json").out.splitlines()]

    assert [item["incident_id"] for item in listed["items"]] == [over]
    assert shown["incident"]["questions"][0]["request"]["approval_id"] == f"{waits}.1"
    assert "\x1b" not in told
    assert "probes run: \\x1b[2J hostile" in told
    assert [event["type"] for event in followed] == [
        "relab.incident.opened", "relab.incident.looked", "relab.incident.closed",
    ]  # fmt: skip


def test_text_of_an_event_forges_no_line_of_the_timeline(known: tuple[Lab, str, str]) -> None:
    lab, over, _ = known

    for command in ("show", "watch"):
        lines = lab.run("incidents", command, over).out.splitlines()
        assert not [line for line in lines if line.startswith(FORGED)]
        assert sum(line.endswith(f"hostile\\n{FORGED}") for line in lines) == 1


def test_all_events_of_a_long_incident_are_shown_and_followed(
    known: tuple[Lab, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, over, _ = known
    monkeypatch.setattr(log_module, "MAX_EVENTS_PER_READ", 2)

    shown = lab.json("incidents", "show", over)["events"]
    followed = [json.loads(line) for line in lab.run("incidents", "watch", over, "--json").out.splitlines()]

    assert len(shown) == 3
    assert followed == shown


def test_incident_is_shown_with_the_facts_needed_for_an_approval(known: tuple[Lab, str, str]) -> None:
    lab, _, waits = known

    shown = lab.run("incidents", "show", waits).out

    for part in (
        "Blast radius: some_requests",
        "Rollback: ",
        "Valid until: ",
        "If no person answers: Nothing is done.",
    ):
        assert part in shown
    assert f"lab incidents approve|reject {waits}.1" in shown


def test_only_requests_that_can_be_approved_are_shown_for_an_answer(tmp_path: Path) -> None:
    lab = InProcessLab(tmp_path, {})
    services = build(load_settings(lab.home))
    migrate(services.database)
    log, now_us = services.incidents.log, SystemClock().now_us()
    incident_id = opened(log, "shop", at_us=now_us).incident_id
    for name, left_us in (("expired", -1), ("withdrawn", 60 * MINUTE_US), ("waiting", 60 * MINUTE_US)):
        log.approvals.request(question(incident_id, name, asked_at=now_us - MINUTE_US, expires_at=now_us + left_us))
    log.approvals.withdraw("withdrawn", now_us=now_us, why="The problem has passed.")
    services.close()

    shown = lab.run("incidents", "show", incident_id).out

    offered = [line for line in shown.splitlines() if line.startswith("  To answer: ")]
    assert offered == ["  To answer: lab incidents approve|reject waiting"]


def test_unknown_incident_is_reported(known: tuple[Lab, str, str]) -> None:
    lab, _, _ = known

    assert "incident_not_found" in lab.run("incidents", "show", "none", "--json", code=EXIT_FAILED).out
    assert "waiting_approval" in lab.run("incidents", "list", "--status", "x", code=EXIT_USAGE).err
    assert "TARGET_API_BASE_URL" in lab.run("incidents", "trigger", "slow", code=EXIT_FAILED).err


@pytest.mark.full
def test_approval_request_is_answered_by_the_id_of_its_incident(known: tuple[Lab, str, str]) -> None:
    lab, over, waits = known

    approved = lab.json("incidents", "approve", waits, "--by", "ann", "--note", "go")["decision"]
    rejected = lab.run("incidents", "reject", f"{waits}.1").out

    assert approved["approved"] is True
    assert approved["by"] == "ann"
    assert approved["note"] == "go"
    assert rejected == f"{waits}.1 is rejected by cli.\n"
    assert "no incident with this id" in lab.run("incidents", "approve", over, code=EXIT_FAILED).err


def test_repaired_incident_is_closed_with_a_note(tmp_path: Path) -> None:
    lab = InProcessLab(tmp_path, {})
    services = build(load_settings(lab.home))
    migrate(services.database)
    log, now_us = services.incidents.log, SystemClock().now_us()
    first = opened(log, "shop", at_us=now_us).incident_id
    second = opened(log, "till", at_us=now_us).incident_id
    services.close()
    given = ("--note", f"I restarted it.\n{FORGED}", "--cause", "cache_down", "--by", "ann")

    assert "--note" in lab.run("incidents", "close", first, code=EXIT_USAGE).err
    assert "note is empty" in lab.run("incidents", "close", first, "--note", " ", code=EXIT_USAGE).err
    assert "waiting_approval" in lab.run("incidents", "close", first, *given, "--if-status", "x", code=EXIT_USAGE).err
    late = lab.run("incidents", "close", first, *given, "--if-status", "escalated", code=EXIT_FAILED)
    closed = lab.run("incidents", "close", first, *given)
    again = lab.json("incidents", "close", first, *given)["incident"]
    other = lab.run("incidents", "close", first, "--note", "Me too.", "--by", "ben", code=EXIT_FAILED)
    shown = lab.json("incidents", "close", second, "--note", "I restarted it.")["incident"]

    assert "has the status open now" in late.err
    assert "Status: closed" in closed.out
    assert "ann closed the incident as repaired. The cause was cache_down. I restarted it." in closed.out
    assert not [line for line in closed.out.splitlines() if line.startswith(FORGED)]
    assert again["outcome"] == "closed_by_person"
    assert "is over: its outcome is closed_by_person" in other.err
    assert shown["status"] == "closed"


@pytest.mark.full
def test_the_responder_is_paused_resumed_and_triggered(known: tuple[Lab, str, str]) -> None:
    lab, _, _ = known

    assert lab.json("incidents", "pause", "--why", "we move")["is_paused"] is True
    assert lab.run("incidents", "resume").out == "The responder of all targets is resumed.\n"
    assert lab.json("incidents", "trigger", "slow", "--target", "other")["created"] is True


def test_resume_names_the_pauses_that_it_does_not_end(tmp_path: Path) -> None:
    lab = InProcessLab(
        tmp_path, {"TARGET_API_BASE_URL": "http://127.0.0.1:1", "RELAB_INCIDENTS__TARGET_NAME": "my shop"}
    )

    lab.run("incidents", "pause", "--target", "my shop", "--by", "ann", "--why", "we move")
    one = lab.run("incidents", "resume")
    lab.run("incidents", "pause", "--by", "ben")
    all_of_them = lab.run("incidents", "resume", "--target", "my shop")
    last = lab.run("incidents", "resume")

    assert one.out == "The pause of all targets has ended.\n"
    assert one.err == (
        "lab: warning: The responder of my shop is still paused by ann (we move). "
        "To resume it: lab incidents resume --target 'my shop'.\n"
    )
    assert all_of_them.out == "The pause of my shop has ended.\n"
    assert all_of_them.err == (
        "lab: warning: The responder of all targets is still paused by ben. To resume it: lab incidents resume.\n"
    )
    assert last.out == "The responder of all targets is resumed.\n"
    assert last.err == ""


@pytest.mark.parametrize(("command", "state"), [("pause", "paused"), ("resume", "resumed")])
def test_switch_of_a_target_that_was_never_watched_is_turned_with_a_warning(
    tmp_path: Path, command: str, state: str
) -> None:
    lab = InProcessLab(tmp_path, {"TARGET_API_BASE_URL": "http://127.0.0.1:1", "RELAB_INCIDENTS__TARGET_NAME": "till"})
    services = build(load_settings(lab.home))
    migrate(services.database)
    now_us = SystemClock().now_us()
    for name in ("shop", "/notices/slack"):
        services.incidents.log.leases.take(name, "a process", now_us=now_us, until_us=now_us + 1)
    services.close()

    wrong = lab.run("incidents", command, "--target", "shpo")
    right = [lab.run("incidents", command, "--target", name) for name in ("shop", "till", "*")]

    assert wrong.out.startswith(f"The responder of shpo is {state}")
    assert wrong.err == (
        "lab: warning: No responder has watched a target named shpo. Targets that were watched: shop, till.\n"
    )
    assert [done.err for done in right] == ["", "", ""]


def test_trigger_for_a_target_that_was_never_watched_warns(tmp_path: Path) -> None:
    lab = InProcessLab(tmp_path, {"TARGET_API_BASE_URL": "http://127.0.0.1:1", "RELAB_INCIDENTS__TARGET_NAME": "till"})

    wrong = lab.run("incidents", "trigger", "slow", "--target", "tlil")
    right = lab.run("incidents", "trigger", "slow", "--target", "till")

    assert wrong.out.endswith(" is opened.\n")
    assert wrong.err == (
        "lab: warning: No responder has watched a target named tlil. Targets that were watched: till.\n"
    )
    assert right.err == ""


@pytest.mark.parametrize(
    "invalid", [{"TARGET_API_BASE_URL": "localhost:8000"}, {"RELAB_LLM__PROVIDER": "nobody"}], ids=["url", "model"]
)
def test_commands_that_need_no_target_work_with_invalid_settings_of_the_target(
    tmp_path: Path, invalid: dict[str, str]
) -> None:
    given = {"TARGET_API_BASE_URL": "http://127.0.0.1:1", "RELAB_INCIDENTS__ASK_MODEL": "unsure", **invalid}
    lab = InProcessLab(tmp_path, given)

    incident_id = lab.json("incidents", "trigger", "slow", "--target", "shop")["incident_id"]
    reported = lab.run("incidents", "trigger", "slow", code=EXIT_UNAVAILABLE).err

    assert [each["incident_id"] for each in lab.json("incidents", "list")["items"]] == [incident_id]
    assert incident_id in lab.run("incidents", "show", incident_id).out
    assert lab.run("incidents", "pause").out.startswith(
        "The responder of all targets is paused: it executes no actions."
    )
    assert lab.run("incidents", "resume", "--target", "shop").out == "The pause of shop has ended.\n"
    assert next(iter(invalid)) in reported


def test_responder_without_a_token_does_not_start(known: tuple[Lab, str, str]) -> None:
    lab, _, _ = known

    refused = lab.run("serve", "--only", "incidents", code=EXIT_UNAVAILABLE)

    assert "ACTION_SERVER_TOKEN" in refused.err


def test_old_incidents_are_pruned_and_open_ones_kept(tmp_path: Path) -> None:
    lab = InProcessLab(tmp_path, {})
    services = build(load_settings(lab.home))
    migrate(services.database)
    log, day_us = services.incidents.log, 86_400_000_000
    old = opened(log, "shop", at_us=day_us).incident_id
    log.close(old, at_us=2 * day_us, outcome=IncidentOutcome.PASSED)
    waits = opened(log, "shop", at_us=3 * day_us).incident_id
    services.close()

    assert lab.json("incidents", "prune", "--older-than", "30d", "--dry-run")["incidents"] == 1
    assert lab.json("incidents", "prune", "--older-than", "30d", "--yes")["incidents"] == 1
    assert [item["incident_id"] for item in lab.json("incidents", "list")["items"]] == [waits]
    assert "6m" in lab.run("incidents", "prune", "--older-than", "6m", code=EXIT_USAGE).err
