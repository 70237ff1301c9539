"""`lab knowledge` as its users run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from relab.knowledge.models import Runbook, RunbookAction
from relab.knowledge.writing import write_runbook
from support.cli import Lab
from support.runbooks import runbook

EXIT_FAILED, EXIT_USAGE, EXIT_UNAVAILABLE = 1, 64, 69
SYMPTOM = "the frobnicator overflows now and then"


def write(folder: Path, book: Runbook) -> str:
    path = folder / f"draft-{book.cause}.md"
    path.write_text(write_runbook(book))
    return str(path)


def test_a_runbook_is_added_listed_shown_and_found(empty: Lab, tmp_path: Path) -> None:
    draft = write(tmp_path, runbook("frobnication", symptoms=(SYMPTOM,)))

    added = empty.json("knowledge", "add", draft)
    listed = {each["cause"]: each for each in empty.json("knowledge", "list")["runbooks"]}
    shown = empty.run("knowledge", "show", "frobnication").out
    found = empty.json("knowledge", "search", "FROBNICATOR", 'overflowing" OR NEAR(', "--explain")["hits"]

    assert added == {"cause": "frobnication", "source": str(empty.home / "knowledge" / "frobnication.md")}
    assert listed["frobnication"]["source"] == added["source"]
    assert len(listed) > 1, "the shipped ones are there too"
    assert shown == Path(draft).read_text()
    assert (found[0]["kind"], found[0]["cause"], found[0]["by_words"]) == ("runbook", "frobnication", 1)
    assert {"by_meaning", "likeness"} <= found[0].keys()


@pytest.mark.full
def test_a_shipped_runbook_is_replaced_and_the_folder_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    lab = Lab(tmp_path / "home", {"RUNBOOKS_PATH": str(tmp_path / "ours")})
    missing = lab.run("knowledge", "list", code=EXIT_USAGE)
    (tmp_path / "ours").mkdir()
    shipped = lab.json("knowledge", "list")["runbooks"][0]["cause"]
    lab.run("knowledge", "add", write(tmp_path, runbook(shipped, title="Ours")))

    again = lab.run("knowledge", "add", write(tmp_path, runbook(shipped, title="Newer")), code=EXIT_FAILED)
    lab.run("knowledge", "add", write(tmp_path, runbook(shipped, title="Newer")), "--replace")

    assert "RUNBOOKS_PATH" in missing.err
    assert "--replace" in again.err
    listed = lab.json("knowledge", "list")
    assert listed["folder"] == str(tmp_path / "ours")
    assert [each["title"] for each in listed["runbooks"] if each["replaces_shipped"]] == ["Newer"]
    assert [path.name for path in (tmp_path / "ours").iterdir()] == [f"{shipped}.md"], "nothing else is left there"


@pytest.mark.full
def test_what_is_no_runbook_is_refused_and_changes_nothing(empty: Lab, tmp_path: Path) -> None:
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


@pytest.mark.full
def test_lint_tells_what_is_to_be_mended(empty: Lab) -> None:
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
    assert "left out:" in listed
    assert "\x1b[2J" not in failed.out + listed


@pytest.mark.full
def test_lint_knows_looks_facts_and_actions(empty: Lab) -> None:
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
    assert (draft["cause"], draft["is_new"], draft["file"]) == ("odd", True, str(folder / "odd.md"))
    assert '+cause: "odd"' in shown
    assert shown == draft["diff"]
    assert accepted == {"cause": "odd", "source": str(empty.home / "knowledge" / "odd.md")}
    assert "lab knowledge drafts" in again.err
    assert empty.json("knowledge", "drafts")["drafts"] == []
