"""Hostile text of runs: printed without the control characters that a terminal would execute."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.cli.builds.watch import _print_error
from relab.cli.experiments.sets import _Ran, _show
from relab.cli.experiments.trials import _show_events
from relab.cli.output import (
    EXIT_INTERNAL,
    EXIT_USAGE,
    argument,
    plain,
    plain_lines,
    print_json,
    print_table,
    report_error,
)
from relab.core.errors import InvalidInputError
from relab.experiments.models import RunOptions
from relab.experiments.sets import ExperimentSet, SetEntry
from relab.testbed.errors import StartError
from support.lab.cli import Lab
from support.lab.in_process import InProcessLab
from support.telemetry.runs import examples, failed_run, texts

HOSTILE = "[/bold][link=http://evil.example]x[/link]\x1b[2J\x1b]0;title\x07\x9b31m\r\x08:smile:\u202eabc\x7f"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]")
RUN_ID = "[red] [bold]:bomb:\u202e"


@given(st.text())
@examples(200)
def test_plain_text_has_no_control_characters(text: str) -> None:
    assert not OBEYED.search(plain_lines(text))
    assert plain(plain(text)) == plain(text)


@given(st.text())
@examples(200)
def test_plain_text_is_one_line(text: str) -> None:
    assert len(plain(text).splitlines()) <= 1


@given(st.text(st.characters() | st.sampled_from("\n\r\x85\u2028")))
@examples(200)
def test_lines_of_a_text_are_indented_except_the_first(text: str) -> None:
    assert all(line.startswith("  ") for line in plain_lines(text, "  ").splitlines()[1:])


def test_plain_text_is_unchanged_but_for_escaped_control_characters() -> None:
    assert plain_lines("ä\t漢字\nnext 👩‍🔬 [bold]") == "ä\t漢字\nnext 👩‍🔬 [bold]"
    assert plain("ä\t漢字\nnext") == r"ä{}漢字\nnext".format("\t")
    assert plain("a\u2028b\u2029c") == r"a\u2028b\u2029c"
    assert plain(HOSTILE).startswith(r"[/bold][link=http://evil.example]x[/link]\x1b[2J\x1b]0;title\x07\x9b31m\x0d\x08")


@pytest.mark.parametrize("name", ["run_1", "/home/a b/.lab/runs/run_1", "it's $HOME", "-x", "", "漢 字"])
def test_argument_is_one_argument_of_a_copied_command(name: str) -> None:
    assert shlex.split(f"lab compare {argument(name)}") == ["lab", "compare", name]


def test_argument_has_no_control_characters() -> None:
    assert argument("run_1") == "run_1"
    assert not OBEYED.search(argument(HOSTILE))


def test_invalid_utf8_in_file_names_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"a\x9b31m\xff.log")
    print_json("test", name=name)

    assert plain(name) == r"a\udc9b31m\udcff.log"
    assert json.loads(capsys.readouterr().out)["name"] == name


def test_argument_with_invalid_utf8_is_named(empty: Lab) -> None:
    for arguments in (["rca"], ["agent-runs", "show"], ["builds", "tests"]):
        refused = empty.run(*arguments, os.fsdecode(b"run\x9b"), code=64)
        assert refused.err == r"lab: The argument 'run\udc9b' is not valid UTF-8." + "\n"


def test_argument_is_named_only_if_it_caused_the_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lab", os.fsdecode(b"run\x9b")])
    for name, code in ((b"a run\x9b", EXIT_USAGE), (b"a\xff", EXIT_INTERNAL)):
        with pytest.raises(UnicodeEncodeError) as raised:
            os.fsdecode(name).encode()
        assert report_error(raised.value) == code
        assert ("not valid UTF-8" in capsys.readouterr().err) == (code == EXIT_USAGE)


def test_event_of_a_trial_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    event = {"event_type": "error", "ts": "2026-11-25T10:00:00Z", "seq": 1, "message": "a\nlab: all is well"}
    _show_events({"total": 1, "last": [event]})

    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("columns", ["20", "240"])
def test_line_end_in_a_cell_begins_no_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", columns)
    forged = "x\nrun-2\nrun: run-2\n  cause: timeout"

    print_table(f"Runs {forged}", ("run", "cause", "outcome", "cost"), [(f"run-1{forged}", forged, "failed", "-")])

    beginnings = [line[:8].strip() for line in capsys.readouterr().out.splitlines()]
    assert not [text for text in beginnings if text.startswith(("run-2", "run: run-2"))]
    assert beginnings.count("cause:") <= 1


def test_line_end_in_an_error_begins_no_message(capsys: pytest.CaptureFixture[str]) -> None:
    report_error(InvalidInputError("The run 'a\nlab: all is well' is unknown.", problems=(("a\nlab: field", "b"),)))

    assert [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")] == ["lab: The run 'a"]


def test_further_lines_of_the_error_of_a_pass_or_of_an_experiment_are_indented(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error = StartError("PostgreSQL does not start.", log_tail="FATAL: the port is in use\nFATAL: the end")
    _print_error(error)
    entry = SetEntry(0, tmp_path, "math", "")
    _show(ExperimentSet("night", tmp_path, RunOptions(), [entry]), [_Ran(entry, error=str(error))])

    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [
        "lab: PostgreSQL does not start.", "     FATAL: the port is in use", "     FATAL: the end",
    ]  # fmt: skip
    assert lines[3:6] == ["lab: math: PostgreSQL does not start.", *lines[1:3]]


def test_path_in_a_command_to_copy_is_one_argument(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "my plan.yaml"
    said = lab.run("rollout", "init", str(path)).out

    assert shlex.split(said.partition("with: ")[2]) == ["lab", "rollout", "run", "--config", str(path), "--dry-run"]


@given(text=texts | st.just(HOSTILE))
@examples(60)
def test_json_output_round_trips_without_control_characters(capsys: pytest.CaptureFixture[str], text: str) -> None:
    print_json("test", text=text, key={text: text})

    out = capsys.readouterr().out
    assert json.loads(out) == {"ok": True, "command": "test", "text": text, "key": {text: text}}
    assert not OBEYED.search(out)


@pytest.mark.parametrize("text", [HOSTILE, "[/]", "[", "[bold", "[/bold]", "\\[x]", "[link=x]", "[@click=f()]"])
def test_tables_show_markup_as_it_is(capsys: pytest.CaptureFixture[str], text: str) -> None:
    print_table(f"Run {text}", ("what", text), [(text, "one"), (None, None)])

    out = capsys.readouterr().out
    assert not OBEYED.search(out)
    squeezed = re.sub(r"[\s│┃]", "", out)
    assert squeezed.count(re.sub(r"\s", "", plain(text))) == 3


@pytest.mark.parametrize(("columns", "is_list"), [("60", True), ("160", False)])
def test_table_in_a_terminal_too_narrow_for_its_columns_is_a_list_with_all_texts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str, is_list: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    run_id = "0192f0c1-0000-7000-8000-000000000000"

    print_table(
        "Agent runs", ("run", "agent", "outcome", "cause"), [(run_id, "support-agent", "failed", f"x{HOSTILE}")]
    )

    out = capsys.readouterr().out
    assert not OBEYED.search(re.sub(r"\x1b\[\d*m", "", out))
    assert run_id in out
    assert (f"run: {run_id}\n  agent: support-agent\n  outcome: failed\n  cause: x" in out) == is_list


def test_every_command_prints_a_hostile_run_harmlessly(empty: Lab) -> None:
    body = failed_run(
        RUN_ID,
        agent_name=HOSTILE,
        agent_version=HOSTILE,
        error_type=HOSTILE,
        error_message=HOSTILE,
        odd={HOSTILE: HOSTILE},
    )
    body["steps"][1].update(name=HOSTILE, output_summary=HOSTILE)
    body["tool_calls"][0].update(tool_name=HOSTILE, error_message=f"missing required field {HOSTILE}")
    body["guardrail_events"][0].update(message=HOSTILE, type=HOSTILE)
    forced = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    coloured = InProcessLab(empty.home, forced)

    refused = empty.run("agent-runs", "ingest", "-", stdin=json.dumps({**body, "status": HOSTILE}), code=1)
    empty.run("agent-runs", "ingest", "-", stdin=json.dumps(body))
    printed = [refused.err]
    commands = (
        ["agent-runs", "list"],
        ["agent-runs", "show", RUN_ID],
        ["rca", RUN_ID, "--follow"],
        ["rca", RUN_ID, "--json"],
        ["rca", "clusters"],
        ["metrics", "--hours", "10000000"],
    )
    printed += [empty.run(*arguments).out for arguments in commands]
    missing = empty.run("agent-runs", "show", HOSTILE.replace("\x00", ""), code=1)
    printed += [missing.err, missing.out]

    for text in printed:
        assert not OBEYED.search(text.replace("\n", "").replace("\t", "")), text
    assert "[red] [bold]:bomb:" in printed[2]
    # With colours on, the only control characters in the output are Rich's colour codes.
    colours = re.compile(r"\x1b\[[0-9;]*m")
    assert not OBEYED.search(colours.sub("", coloured.run("agent-runs", "timeline", RUN_ID).out))
