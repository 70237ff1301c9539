"""`lab builds explain`: the lines of a log that explain why the build failed, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

from relab.cli.builds.tests import print_tests
from relab.cli.context import open_services, read_settings
from relab.cli.output import JsonOption, plain, plain_lines, print_json, stdout_console

if TYPE_CHECKING:
    from rich.console import Console as _Console

    from relab.builds.logs.service import BuildLog, RelevantLine
    from relab.builds.service import JudgedTest
    from relab.builds.suggestions.service import FixSuggestion

_SHOWN_FIRST: Final = 12
_SHOWN_LAST: Final = 3
"""Of a passage that is longer than `_SHOWN_FIRST + _SHOWN_LAST` lines, such as a stack trace, only the first and the
last lines are printed."""
_MOST_FIRST: Final = 100
_MOST_LAST: Final = 20
"""If there are more passages than `_MOST_FIRST + _MOST_LAST`, only the first and the last ones are printed: one missing
header file can cause thousands of errors."""
_STDIN: Final = "-"


def explain(
    logfile: Annotated[str, typer.Argument(help="The log of a failed build, or - for standard input.")],
    passing: Annotated[
        str | None, typer.Option(help="The log of a build of the same kind that passed. What it has too is left out.")
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(help="Also print what the recorded builds of this project say about the tests that failed."),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--all", help="Print whole stack traces, and also the consequences of the failure.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the lines of a build's log that explain the failure, with their numbers and reasons, and what to do.

    The command needs no server. It needs a database only for --project. Exit code 0, even if no line explains the
    failure.
    """
    from relab.builds.logs.service import LineRole, relevant_lines
    from relab.builds.suggestions.service import known_failures, suggest

    log = _read(logfile)
    passed = _read(passing) if passing is not None else None
    lines = relevant_lines(log, passed)
    fix = suggest(lines, log, passed, failures=known_failures(read_settings().taught_failures))
    failing = None if project is None else _failing_tests(project, log)
    if as_json:
        shown = [
            {"number": each.number, "text": each.text, "role": each.role.value, "score": each.score, "why": each.why}
            for each in lines
        ]
        print_json(
            "builds explain",
            total_lines=log.total_lines,
            left_out=list(log.left_out) if log.left_out else None,
            shortened_lines=log.shortened_lines,
            is_binary=log.is_binary,
            lines=shown,
            fix=fix.model_dump(mode="json"),
            **({} if failing is None else {"failing_tests": [test.model_dump(mode="json") for test in failing]}),
        )
        return
    causes = [each for each in lines if whole or each.role is not LineRole.CONSEQUENCE]
    _print_remarks(logfile, log)
    _print_lines(causes or lines, log, whole=whole)
    _print_fix(fix)
    if failing:
        print()
        print_tests(failing)


def _failing_tests(project: str, log: BuildLog) -> list[JudgedTest]:
    """Return the tests that failed in a log, each with its status (such as flaky) in the builds of a project.

    A test that occurs in no recorded build of the project is left out.
    """
    from relab.builds.logs.service import failed_tests

    with open_services() as services:
        return services.builds.history.known_tests(project, failed_tests(log))


def _read(path: str) -> BuildLog:
    from relab.builds.logs.service import open_log, open_stream

    return open_stream(sys.stdin.buffer, "stdin") if path == _STDIN else open_log(path)


def _print_fix(fix: FixSuggestion) -> None:
    if not fix.is_known:
        print(f"\nWhat to do: {plain_lines(fix.suggestion, '  ')}")
        return
    print(f"\nWhat to do: {plain(fix.title)} (confidence {fix.confidence:.2f})")
    print(f"  {plain_lines(fix.suggestion, '  ')}")
    print_quotes(fix)


def print_quotes(fix: FixSuggestion) -> None:
    """Print the quoted lines of a suggestion with their numbers, escaped for a terminal."""
    for each in fix.quotes:
        where = f"line {each.number:,}" if each.number else "error"
        print(f"  {where}: {plain(each.text)}")


def _print_remarks(path: str, log: BuildLog) -> None:
    print(f"{plain(path)}: {log.total_lines:,} {'line' if log.total_lines == 1 else 'lines'}")
    if log.left_out is not None:
        first, last = log.left_out
        print(f"The log is large: lines {first:,} to {last:,} were counted, but not read.")
    if log.is_binary:
        print("The log contains many NUL bytes: it may not be text.")


def _print_lines(lines: Sequence[RelevantLine], log: BuildLog, *, whole: bool) -> None:
    from rich.text import Text

    console = stdout_console(soft_wrap=True, highlight=False, emoji=False)
    if not lines:
        print("No line explains a failure.")
        return
    width = len(str(log.total_lines))
    passages = _passages(lines)
    first, last = passages, passages[:0]
    if not whole and len(passages) > _MOST_FIRST + _MOST_LAST:
        first, last = passages[:_MOST_FIRST], passages[-_MOST_LAST:]
    _print_passages(console, first, width, whole=whole)
    if last:
        left_out = sum(len(group) for group in passages[_MOST_FIRST:-_MOST_LAST])
        console.print(Text(f"\n… {left_out:,} more lines that explain the failure (--all prints them)", style="dim"))
        _print_passages(console, last, width, whole=whole)


def _print_passages(console: _Console, passages: list[list[RelevantLine]], width: int, *, whole: bool) -> None:
    from rich.text import Text

    printed_why = None
    for group in passages:
        if group[0].why != printed_why:
            printed_why = group[0].why
            console.print(Text(f"\n{plain(printed_why)}", style="bold"))
        hidden = 0 if whole else max(0, len(group) - _SHOWN_FIRST - _SHOWN_LAST)
        for index, line in enumerate(group):
            if hidden and _SHOWN_FIRST <= index < _SHOWN_FIRST + hidden:
                if index == _SHOWN_FIRST:
                    console.print(Text(f"  {'':>{width}}  … {hidden:,} more lines (--all prints them)", style="dim"))
                continue
            numbered = Text(f"  {line.number:>{width}}  ", style="dim")
            console.print(numbered.append(Text(plain(line.text), style=_STYLES[line.role.value])))


def _passages(lines: Iterable[RelevantLine]) -> list[list[RelevantLine]]:
    """Group lines into passages: consecutive lines that were chosen for the same reason (`RelevantLine.why`).

    A line that reports an error always starts a new passage.
    """
    passages: list[list[RelevantLine]] = []
    for line in lines:
        if not passages or line.why != passages[-1][0].why or line.role.value == "error":
            passages.append([])
        passages[-1].append(line)
    return passages


_STYLES: Final = {"error": "bold red", "detail": "default", "consequence": "dim"}
