"""Tables that are drawn without Rich are the tables of Rich."""

from __future__ import annotations

import io
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relab.cli import simple_tables

Rows = list[list[str]]
TEXT = st.text(alphabet=string.ascii_letters + string.digits + string.punctuation + " ", max_size=12)


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[str], Rows]:
    names = draw(st.lists(TEXT.filter(str.strip), min_size=1, max_size=5))
    row = st.lists(TEXT, min_size=len(names), max_size=len(names))
    return draw(TEXT.filter(str.strip)), names, draw(st.lists(row, max_size=4))


def by_rich(title: str, names: list[str], rows: Rows, *, is_terminal: bool = False) -> str:
    table = Table(title=Text(title), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for index, name in enumerate(names):
        table.add_column(Text(name), overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=120, force_terminal=is_terminal).print(table)
    return out.getvalue().removesuffix("\n")


def rendered(text: str) -> str:
    """Return the text without escape sequences."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@given(tables())
def test_table_is_drawn_as_rich_draws_it(table: tuple[str, list[str], Rows]) -> None:
    drawn = simple_tables.draw(*table, width=120, has_styles=False)

    if drawn is not None:
        assert drawn == by_rich(*table)


def test_usual_table_is_drawn() -> None:
    drawn = simple_tables.draw("Runs", ["run", "status"], [["a", "failure"]], width=18, has_styles=False)

    assert drawn == by_rich("Runs", ["run", "status"], [["a", "failure"]])


def test_title_and_headings_have_styles_in_a_terminal() -> None:
    table = ("Runs", ["run", "status"], [["a", "failure"]])
    drawn = simple_tables.draw(*table, width=80, has_styles=True)

    assert drawn is not None
    assert drawn.startswith("\x1b[3mRuns")
    assert "\x1b[1m  run   status" in drawn
    assert rendered(drawn) == rendered(by_rich(*table, is_terminal=True))


@pytest.mark.parametrize(
    ("title", "name", "cell"),
    [
        ("Runs", "run", "two\nlines"),
        ("Runs", "run", "größer"),
        ("Runs", "漢字", "a"),
        ("The runs\x1b", "run", "a"),
        ("Runs", "run", "x" * 16),
        ("A title that is wider than its table", "run", "a"),
    ],
)
def test_table_that_needs_rich_is_not_drawn(title: str, name: str, cell: str) -> None:
    assert simple_tables.draw(title, [name], [[cell]], width=19, has_styles=False) is None


@pytest.mark.parametrize(
    ("encoding", "settings", "can_draw"),
    [
        ("utf-8", {}, True),
        ("ascii", {}, False),
        ("utf-8", {"FORCE_COLOR": "1"}, False),
        ("utf-8", {"TTY_COMPATIBLE": "1"}, False),
    ],
)
def test_rich_draws_where_the_environment_or_the_encoding_decides(
    encoding: str, settings: dict[str, str], can_draw: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JUPYTER_COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))

    assert simple_tables.can_draw() is can_draw
