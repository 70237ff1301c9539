"""The examples on the documentation page about flags: the JSON is valid and the Python runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import relab
from relab.core.json import parse_json
from relab.flags.models import FlagContent
from relab.flags.service import FlagService, read_as
from support.flags.contents import content

PAGE = Path(relab.__file__).parents[2] / "docs" / "flags.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_json_of_the_page_is_valid_flag_content() -> None:
    [shown] = blocks("json")

    assert read_as(FlagContent, parse_json(shown.encode())).default_variant == "off"


def test_python_of_the_page_runs(flags: FlagService, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    [shown] = blocks("python")
    names: dict[str, Any] = {}
    exec(shown, names)
    flags.create(key, content(), author="ann")

    names["roll_out"](flags, key, content(default_variant="on"))

    assert capsys.readouterr().out == "STATIC\n"
    assert [item.action for item in flags.history(key).items] == ["rolled_back", "updated", "created"]
