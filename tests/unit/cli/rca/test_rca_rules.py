"""`lab rca rules`: reports errors with their lines, and tests rules on stored runs and labels."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import relab
from relab.cli.output import EXIT_FAILED, EXIT_USAGE
from support.lab.cli import Lab
from support.telemetry.runs import failed_run, minimal_run, step

SHIPPED = Path(relab.__file__).parent.parent.parent / "examples/rules/behaviours.yaml"

WRONG = """version: 1
behaviours:
  - name: one
    description: first
    when:
      answer: '(?=x)'
  - name: two
    description: second
    whn: {answer: x}
"""


def test_mistakes_are_named_with_their_lines(empty: Lab) -> None:
    file = empty.home / "wrong.yaml"
    file.write_text(WRONG)
    out = empty.run("rca", "rules", "lint", str(file), code=EXIT_FAILED).out

    assert f"{file}:6: behaviours.0.when.answer: is not a regular expression of linear time" in out
    assert f"{file}:9: behaviours.1.whn: is an unknown field (did you mean 'when'?)" in out
    assert "at least 1 item" not in out
    file.write_text("version: 1\nbehaviours: []\n")
    empty_list = empty.run("rca", "rules", "lint", str(file), code=EXIT_FAILED).out
    assert f"{file}:2: behaviours: list should have at least 1 item" in empty_list
    file.write_text(WRONG.replace("'(?=x)'", "x").replace("whn", "when").replace("two", "one"))
    assert (
        f"{file}:7: behaviours.1.name: the name 'one' is used in line 3 already"
        in empty.run("rca", "rules", "lint", str(file), code=EXIT_FAILED).out
    )
    assert empty.run("rca", "rules", "lint", "missing.yaml", code=EXIT_FAILED).out
    empty.run("rca", "rules", "test", str(file), code=EXIT_USAGE)


def test_shipped_rules_find_the_behaviours_that_they_describe(empty: Lab) -> None:
    question = "What is your order number?"
    runs = [
        failed_run("sorry", steps=[step("s1", output_summary="I apologise.")], tool_calls=[]),
        minimal_run("twice", steps=[step("s1", output_summary=question), step("s2", output_summary=f"So: {question}")]),
        minimal_run("fine", steps=[step("s1", output_summary="Here it is.")]),
    ]
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(runs))
    empty.run("rca", "rules", "lint", str(SHIPPED))
    found = empty.json("rca", "rules", "test", str(SHIPPED))
    shown = {run["run_id"]: [each["name"] for each in run["behaviours"]] for run in found["runs"]}

    assert found["searched"] == 3
    assert shown == {"sorry": ["apologised-without-a-call"], "twice": ["asked-twice"]}
    assert question in empty.run("rca", "rules", "test", str(SHIPPED), "--run", "twice").out
    assert empty.json("rca", "rules", "test", str(SHIPPED), "--outcome", "failed")["searched"] == 1

    empty.run("rca", "rules", "apply", code=EXIT_USAGE)
    shutil.copy(SHIPPED, empty.home / "rules.yaml")
    assert empty.json("rca", "rules", "apply")["counts"]["asked-twice"] == 1
    listed = empty.json("agent-runs", "list", "--behaviour", "asked-twice")["items"]
    assert [run["run_id"] for run in listed] == ["twice"]
    assert "Behaviours seen: The agent apologised without calling a tool" in empty.run("rca", "sorry").out


@pytest.mark.parametrize("command", ["lint", "test"])
def test_named_pipe_as_a_rule_file_is_rejected_without_waiting(empty: Lab, command: str) -> None:
    pipe = empty.home / "pipe.yaml"
    os.mkfifo(pipe)

    outcome = empty.run("rca", "rules", command, str(pipe), code=EXIT_FAILED if command == "lint" else EXIT_USAGE)

    assert "Not a regular file" in outcome.out + outcome.err


SENTENCES = """version: 1
behaviours:
  - name: blames
    description: The agent blames the user
    sentence: The agent says that a problem is the fault of the user.
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    sentence:", "    when: {answer: x}\n    sentence:", "3: behaviours.0: needs either when or sentence"),
        (SENTENCES[SENTENCES.index("    sentence") :], "", "3: behaviours.0: needs either when or sentence"),
        ("The agent says", "x" * 10_000, "5: behaviours.0.sentence: string should have at most 500 characters"),
        (
            "The agent says that a problem is the fault of the user.",
            "'  '",
            "5: behaviours.0.sentence: string should match",
        ),
        ("sentence", "sentense", "5: behaviours.0.sentense: is an unknown field (did you mean 'sentence'?)"),
    ],
    ids=["both", "neither", "long", "blank", "unknown"],
)
def test_wrong_sentence_is_named_with_its_line(empty: Lab, old: str, new: str, said: str) -> None:
    file = empty.home / "sentences.yaml"
    file.write_text(SENTENCES)
    empty.run("rca", "rules", "lint", str(file))
    file.write_text(SENTENCES.replace(old, new))

    assert f"{file}:{said}" in empty.run("rca", "rules", "lint", str(file), code=EXIT_FAILED).out


def test_sentence_without_a_model_is_not_judged_and_the_output_says_why(empty: Lab) -> None:
    file = empty.home / "rules.yaml"
    file.write_text(SENTENCES)
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(failed_run("r")))
    found = empty.json("rca", "rules", "test", str(file))

    assert found["not_judged"] == {"blames": {"no language model is configured": 1}}
    assert (found["counts"], found["runs"]) == ({"blames": 0}, [])
    assert "Not judged: blames in 1 runs: no language model is configured" in empty.run("rca", "rules", "apply").out
    assert "No language model is configured" in empty.run("rca", "rules", "test", str(file), "--judge", code=None).err
    assert "Not judged: blames: no language model is configured" in empty.run("rca", "r").out
    assert "Not judged: blames: no language model is configured" in empty.run("rca", "r", "--full").out


def test_rules_are_measured_against_labels(empty: Lab) -> None:
    file = str(SHIPPED)
    runs = [failed_run(name, steps=[step("s1", output_summary="I apologise.")], tool_calls=[]) for name in ("a", "b")]
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(runs))
    assert empty.json("rca", "rules", "test", file)["labels"] == []
    name = "apologised-without-a-call"
    assert empty.json("rca", "label", "a", "--behaviour", name)["is_shown"] is True
    assert f"b does not show {name}." in empty.run("rca", "label", "b", "--behaviour", name, "--not-shown").out
    [score] = empty.json("rca", "rules", "test", file)["labels"]

    assert (score["behaviour"], score["labelled"]) == (name, 2)
    assert (score["precision"]["hits"], score["precision"]["n"], score["recall"]["n"]) == (1, 2, 1)
    assert "50% (1 of 2, 9% to 91%)" in empty.run("rca", "rules", "test", file).out
    empty.run("rca", "label", "b", "--behaviour", name, "--step", "s1", code=EXIT_USAGE)
    empty.run("rca", "label", "b", "--not-shown", code=EXIT_USAGE)
    assert empty.json("rca", "label", "b", "--behaviour", name, "--remove")["removed"] is True
    assert empty.json("rca", "rules", "test", file)["labels"][0]["labelled"] == 1
