"""`lab flags`: lists, evaluates, sets, rolls back and archives flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.flags.contents import document, rule
from support.lab.cli import Lab
from support.lab.in_process import InProcessLab

EXIT_FAILED, EXIT_USAGE = 1, 64


@pytest.fixture(scope="module")
def flagged(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A home with the flag `f` at version 2: version 1 is off, version 2 is on for 50 % of the targeting keys."""
    lab = InProcessLab(tmp_path_factory.mktemp("home"), {})
    lab.run("flags", "set", "f", "-", "--note", "first", "--author", "ann", stdin=json.dumps(document()))
    (lab.home / "half.json").write_text(json.dumps(document(rules=[rule(on=5_000, off=5_000)])))
    lab.run("flags", "set", "f", "half.json")
    return lab


def test_a_flag_is_listed_and_shown(flagged: Lab) -> None:
    listed = flagged.json("flags", "list")
    shown = flagged.json("flags", "show", "f", "--version", "1")["flag"]
    told = flagged.run("flags", "show", "f").out

    assert [(item["key"], item["version"], item["is_archived"]) for item in listed["items"]] == [("f", 2, False)]
    assert shown["author"] == "ann"
    assert shown["note"] == "first"
    assert shown["content"]["rules"] == []
    assert told.startswith("f version 2, updated by cli, ")
    assert json.loads(told.partition("\n")[2])["rules"][0]["serve"]["split"][0] == {"variant": "on", "weight_bp": 5_000}


@pytest.mark.full
def test_history_and_difference_are_printed(flagged: Lab) -> None:
    history = flagged.json("flags", "history", "f")
    found = flagged.json("flags", "diff", "f", "1", "2")

    assert [item["version"] for item in history["items"]] == [2, 1]
    assert [(item["path"], item["change"]) for item in found["differences"]] == [("/rules/0", "added")]
    assert "/rules/0" in flagged.run("flags", "diff", "f", "1", "2").out
    assert "first" in flagged.run("flags", "history", "f").out


@pytest.mark.full
def test_a_flag_is_evaluated(flagged: Lab) -> None:
    found = flagged.json("flags", "evaluate", "f", "--targeting-key", "u")

    assert found["reason"] == "SPLIT"
    assert found["version"] == 2
    printed = flagged.run("flags", "evaluate", "f", "--context", '{"targetingKey": "u"}').out
    assert printed == f"{json.dumps(found['value'])}  ({found['variant']}, SPLIT, version 2)\n"
    assert "targeting key" in flagged.run("flags", "evaluate", "f", code=EXIT_USAGE).err


@pytest.mark.full
def test_flag_is_rolled_back_and_archived(flagged: Lab) -> None:
    content = flagged.run("flags", "show", "f").out.partition("\n")[2]
    flagged.run("flags", "set", "g", "-", stdin=content)

    stale = flagged.run("flags", "rollback", "g", "--to", "1", "--if-version", "7", code=EXIT_FAILED)
    back = flagged.json("flags", "rollback", "g", "--to", "1", "--if-version", "1", "--note", "errors rose")["flag"]
    archived = flagged.run("flags", "archive", "g").out
    gone = flagged.run("flags", "evaluate", "g", "--targeting-key", "u", code=EXIT_FAILED)
    again = flagged.run("flags", "set", "g", "-", stdin=content, code=EXIT_FAILED)

    assert "at version 1" in stale.err
    assert back["version"] == 2
    assert back["restored_version"] == 1
    assert back["note"] == "errors rose"
    assert archived == "g is at version 3 (archived).\n"
    assert "archived" in gone.err
    assert "archived" in again.err
    assert [item["key"] for item in flagged.json("flags", "list")["items"]] == ["f"]
    assert [item["key"] for item in flagged.json("flags", "list", "--archived")["items"]] == ["f", "g"]


REFUSED: list[tuple[list[str], Any, int, str]] = [
    (["set", "x", "no-such-file"], "", EXIT_USAGE, "no-such-file"),
    (["set", "x", "."], "", EXIT_USAGE, "directory"),
    (["set", "x", "-"], "{", EXIT_USAGE, "Standard input is not valid JSON"),
    (["set", "x", "-"], "{}", EXIT_USAGE, "value_type"),
    (["set", "a b", "-"], document(), EXIT_USAGE, "key"),
    (["set", "x", "-", "--if-version", "1"], document(), EXIT_FAILED, "no flag"),
    (["set", "f", "-", "--if-version", "1"], document(), EXIT_FAILED, "at version 2"),
    (["set", "f", "-", "--note", "x" * 1_001], document(), EXIT_USAGE, "note"),
    (["set", "f", "-", "--author", ""], document(), EXIT_USAGE, "author"),
    (["show", "none"], "", EXIT_FAILED, "no flag"),
    (["show", "f", "--version", "9"], "", EXIT_FAILED, "no version 9"),
    (["rollback", "f", "--to", "9"], "", EXIT_FAILED, "no version 9"),
    (["evaluate", "f", "--context", "[]"], "", EXIT_USAGE, "context"),
    (["evaluate", "f", "--context", "{"], "", EXIT_USAGE, "The value of --context is not valid JSON"),
    (["evaluate", "f", "--context", '{"targetingKey": 3}'], "", EXIT_USAGE, "targeting"),
    (["diff", "f", "1"], "", EXIT_USAGE, "Missing"),
]


@pytest.mark.full
def test_invalid_input_is_rejected_and_changes_nothing(flagged: Lab) -> None:
    before = flagged.json("flags", "history", "f")

    for arguments, stdin, code, says in REFUSED:
        given = stdin if isinstance(stdin, str) else json.dumps(stdin)
        outcome = flagged.run("flags", *arguments, stdin=given, code=code)
        assert says.lower() in outcome.err.lower(), arguments
        assert "Traceback" not in outcome.err
    assert flagged.json("flags", "history", "f") == before


@pytest.mark.full
def test_control_characters_of_a_flag_do_not_reach_the_terminal(flagged: Lab, tmp_path: Path) -> None:
    hostile = document(description="\x1b[2J[red]x[/red]", value_type="string", variants={"off": "\x9b2J"})
    (tmp_path / "hostile.json").write_text(json.dumps(hostile))
    flagged.run("flags", "set", "h", str(tmp_path / "hostile.json"), "--note", "\x1b[31m")

    printed = [
        flagged.run("flags", *words).out for words in (["list"], ["show", "h"], ["history", "h"], ["evaluate", "h"])
    ]
    flagged.run("flags", "archive", "h")

    assert not any(character in text for text in printed for character in "\x1b\x9b")
    assert "[red]" in printed[0]
