"""`lab knowledge`: adds, lists, shows, lints and accepts runbooks, and corrects past incidents."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.bootstrap import build
from relab.knowledge.models import PastIncident, Resolver, Runbook, RunbookAction, TriedAction, TriedActionResult
from relab.knowledge.writing import write_runbook
from relab.settings import load_settings
from support.incidents.runbooks import past, runbook
from support.lab.cli import Lab
from support.lab.in_process import InProcessLab

EXIT_FAILED, EXIT_USAGE, EXIT_UNAVAILABLE = 1, 64, 69
SYMPTOM = "the frobnicator overflows now and then"


USABLE = (RunbookAction("restart-target", {}, "It mends."),)


def write(folder: Path, book: Runbook) -> str:
    path = folder / f"draft-{book.cause}.md"
    path.write_text(write_runbook(book))
    return str(path)


def test_known_failure_of_builds_is_taught_and_suggested(empty: Lab, tmp_path: Path) -> None:
    (tmp_path / "f.md").write_text(
        "## Licence\n- id: licence\n- category: licence\n- sign: frobnicator has no licence\n\nRestart it.\n"
    )

    added = empty.json("knowledge", "add", str(tmp_path / "f.md"))
    fix = empty.json("builds", "explain", "-", stdin="error: the frobnicator has no licence\n")["fix"]

    assert added["failure"] == "licence"
    assert (fix["incident"], fix["suggestion"]) == ("licence", "Restart it.")
    assert "exists already" in empty.run("knowledge", "add", str(tmp_path / "f.md"), code=64).err


def test_a_runbook_is_added_listed_shown_and_found(empty: Lab, tmp_path: Path) -> None:
    draft = write(tmp_path, runbook("frobnication", symptoms=(SYMPTOM,), actions=USABLE))

    added = empty.json("knowledge", "add", draft)
    listed = {each["cause"]: each for each in empty.json("knowledge", "list")["runbooks"]}
    shown = empty.run("knowledge", "show", "frobnication").out
    found = empty.json("knowledge", "search", "FROBNICATOR", 'overflowing" OR NEAR(', "--explain")["hits"]

    assert added == {"cause": "frobnication", "source": str(empty.home / "knowledge" / "frobnication.md")}
    assert listed["frobnication"]["source"] == added["source"]
    assert len(listed) > 1, "the shipped ones are there too"
    assert shown == Path(draft).read_text()
    assert found[0]["kind"] == "runbook"
    assert found[0]["cause"] == "frobnication"
    assert found[0]["by_words"] == 1
    assert {"by_meaning", "likeness"} <= found[0].keys()


@pytest.mark.full
def test_a_shipped_runbook_is_replaced_and_the_folder_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    lab = InProcessLab(tmp_path / "home", {"RUNBOOKS_PATH": str(tmp_path / "ours")})
    missing = lab.run("knowledge", "list", code=EXIT_USAGE)
    (tmp_path / "ours").mkdir()
    shipped = lab.json("knowledge", "list")["runbooks"][0]["cause"]
    lab.run("knowledge", "add", write(tmp_path, runbook(shipped, title="Ours", actions=USABLE)))

    again = lab.run(
        "knowledge", "add", write(tmp_path, runbook(shipped, title="Newer", actions=USABLE)), code=EXIT_FAILED
    )
    lab.run("knowledge", "add", write(tmp_path, runbook(shipped, title="Newer", actions=USABLE)), "--replace")

    assert "RUNBOOKS_PATH" in missing.err
    assert "--replace" in again.err
    listed = lab.json("knowledge", "list")
    assert listed["folder"] == str(tmp_path / "ours")
    assert [each["title"] for each in listed["runbooks"] if each["replaces_shipped"]] == ["Newer"]
    assert [path.name for path in (tmp_path / "ours").iterdir()] == [f"{shipped}.md"], "nothing else is left there"


@pytest.mark.full
def test_invalid_runbook_is_rejected_and_changes_nothing(empty: Lab, tmp_path: Path) -> None:
    (tmp_path / "not.md").write_text("---\ncause: 3\n---\n")
    useless = write(tmp_path, runbook("useless", mended=()))
    refused = [
        ([str(tmp_path / "absent.md")], "There is no file"),
        ([str(tmp_path / "not.md")], "not.md:2: cause"),
        ([useless], "nothing can show that the cause is gone"),
    ]

    for arguments, said in refused:
        outcome = empty.run("knowledge", "add", *arguments, code=EXIT_USAGE)
        assert said in outcome.err
        assert "Traceback" not in outcome.err
    assert not (empty.home / "knowledge").exists()
    assert "no runbook has the cause" in empty.run("knowledge", "show", "none", code=EXIT_FAILED).err.lower()


def test_add_rejects_runbooks_with_lint_errors(empty: Lab, tmp_path: Path) -> None:
    unknown = write(tmp_path, runbook("odd", actions=(RunbookAction("restart-targt", {}, ""),)))

    refused = empty.run("knowledge", "add", unknown, code=EXIT_USAGE).err

    assert "there is no action 'restart-targt' (did you mean 'restart-target'?)" in refused
    assert "--ask" in refused
    assert not (empty.home / "knowledge" / "odd.md").exists()


@pytest.mark.full
def test_lint_reports_problems(empty: Lab) -> None:
    folder = empty.home / "knowledge"
    folder.mkdir()
    before = empty.json("knowledge", "lint")
    (folder / "weak.md").write_text(write_runbook(runbook("weak", actions=())))
    warned = empty.json("knowledge", "lint")
    (folder / "wrong.md").write_text("---\n\x1b[2J\n---\n")
    (folder / "twin.md").write_text(write_runbook(runbook("weak")))

    failed = empty.run("knowledge", "lint", code=EXIT_FAILED)
    strict = empty.run("knowledge", "lint", "--strict", "--json", code=EXIT_FAILED)
    listed = empty.run("knowledge", "list").out

    assert before["passed"] is True, before
    assert warned["passed"] is True
    assert [each for each in warned["remarks"] if each["weight"] == "error"] == []
    assert strict.json["passed"] is False
    assert f"error: {folder / 'weak.md'}:2: cause: {folder / 'twin.md'} has the cause 'weak' too" in failed.out
    assert f"error: {folder / 'wrong.md'}:2" in failed.out
    assert "not used:" in listed
    assert "\x1b[2J" not in failed.out + listed


@pytest.mark.full
def test_lint_reports_unknown_probes_facts_and_actions(empty: Lab) -> None:
    folder = empty.home / "knowledge"
    folder.mkdir()
    text = write_runbook(runbook("odd", looks=("pol",), actions=(RunbookAction("restart-targt", {}, ""),)))
    (folder / "odd.md").write_text(text)
    lines = text.splitlines()

    said = empty.run("knowledge", "lint", code=EXIT_FAILED).out
    unasked = empty.run("knowledge", "lint", "--ask", code=None)

    look = next(number for number, line in enumerate(lines, start=1) if '"pol"' in line)
    assert f"error: {folder / 'odd.md'}:{look}: looks.0: there is no look 'pol' (did you mean 'pool'?)" in said
    action = next(number for number, line in enumerate(lines, start=1) if "restart-targt" in line)
    assert (
        f"odd.md:{action}: actions.0.action: there is no action 'restart-targt' (did you mean 'restart-target'?)"
        in said
    )
    assert "no look gives the fact 'odd.signal'" in said
    assert unasked.code != 0
    assert "ACTION_SERVER_TOKEN" in unasked.err


@pytest.mark.full
def test_a_draft_is_listed_shown_and_accepted(empty: Lab) -> None:
    folder = empty.home / "knowledge" / "drafts"
    folder.mkdir(parents=True)
    (folder / "odd.md").write_text(write_runbook(runbook("odd")))

    listed = empty.json("knowledge", "drafts")
    shown = empty.run("knowledge", "drafts", "odd").out
    accepted = empty.json("knowledge", "accept", "odd")
    again = empty.run("knowledge", "accept", "odd", code=EXIT_FAILED)

    (draft,) = listed["drafts"]
    assert draft["cause"] == "odd"
    assert draft["is_new"] is True
    assert draft["file"] == str(folder / "odd.md")
    assert '+cause: "odd"' in shown
    assert shown == draft["diff"]
    assert accepted == {"cause": "odd", "source": str(empty.home / "knowledge" / "odd.md")}
    assert "lab knowledge drafts" in again.err
    assert empty.json("knowledge", "drafts")["drafts"] == []


def remember(lab: Lab, *incidents: PastIncident) -> list[Runbook]:
    """Store past incidents and drafts of the runbooks learnt from them, as a responder does; return these runbooks."""
    services = build(load_settings(lab.home))
    services.prepare()
    for incident in incidents:
        services.knowledge.remember(incident)
    learnt = list(services.knowledge.learnt("shop", services.knowledge.library().runbooks, {}))
    for book in learnt:
        services.knowledge.draft(book)
    services.close()
    return learnt


COINCIDENCE = past(
    "i-1", "unknown", {"queue.depth": 900.0}, well={"queue.depth": 1.0}, target="shop", resolver="a\x1b[2Jnn",
    tried=(TriedAction(action="restart-target", outcome=TriedActionResult.CHANGED_NOTHING), TriedAction(action="flush-cache", outcome=TriedActionResult.HELPED)),
)  # fmt: skip
"""Somebody flushed a cache while a queue ran empty by itself."""


def test_learnt_incident_is_listed_and_can_be_deleted(empty: Lab) -> None:
    other = past("i-2", "database_lock", resolved_at=COINCIDENCE.resolved_at - 1, resolved_by=Resolver.RESPONDER)
    (learnt,) = remember(empty, COINCIDENCE, other)

    listed = empty.json("knowledge", "incidents")["incidents"]
    table = empty.run("knowledge", "incidents", "--cause", "unknown").out
    forgotten = empty.json("knowledge", "delete", "i-1")
    again = empty.run("knowledge", "delete", "i-1", "--json", code=EXIT_FAILED).json["error"]

    assert [each["incident_id"] for each in listed] == ["i-1", "i-2"]
    assert listed[0]["cause"] == "unknown"
    assert listed[0]["helped"] == ["flush-cache"]
    assert listed[0]["resolved_by"] == "person"
    assert listed[0]["resolved_at"] == "2023-11-14T22:14:20.000001Z"
    assert "facts" not in listed[0]
    assert "flush-cache" in table
    assert "i-2" not in table
    assert "\x1b" not in table
    draft = empty.home / "knowledge" / "drafts" / f"{learnt.cause}.md"
    assert forgotten["no_longer_used"] == [learnt.cause]
    assert forgotten["drafts"] == [str(draft)]
    assert draft.is_file(), "somebody may be at work on it"
    assert again["code"] == "past_incident_not_found"
    assert "lab knowledge incidents" in again["message"]
    assert [each["incident_id"] for each in empty.json("knowledge", "incidents")["incidents"]] == ["i-2"]
    assert remember(empty) == []
    assert empty.run("knowledge", "delete", "i-2").out == "i-2 is deleted; nothing is learnt from it any more.\n"


@pytest.mark.full
def test_the_cause_of_a_past_incident_is_corrected(empty: Lab) -> None:
    (learnt,) = remember(empty, COINCIDENCE)

    wrong = empty.run("knowledge", "correct", "i-1", "--cause", "database_lok", code=EXIT_FAILED).err
    told = empty.run("knowledge", "correct", "i-1", "--cause", "database_lock").out
    back = empty.json("knowledge", "correct", "i-1", "--cause", "unknown")

    assert "did you mean 'database_lock'?" in wrong
    assert told.startswith("The cause of i-1 is now database_lock.\n")
    assert f"{learnt.cause} is no longer used" in told
    assert back["incident"]["cause"] == "unknown"
    assert back["used_now"] == [learnt.cause]
    empty.run("knowledge", "correct", "none", "--cause", "unknown", code=EXIT_FAILED)
