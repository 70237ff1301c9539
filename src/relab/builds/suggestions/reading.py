"""Read known failures (kinds of failures of builds, with their fixes) from Markdown, and split texts into words."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Final

from relab.builds.suggestions.errors import KnownFailuresInvalidError
from relab.builds.suggestions.models import KnownFailure

_WORD: Final = re.compile(r"(?<!\S)-l(?=[\w:]|$)|(?<!\S)---(?=\s)|(?<=['\"])[;:,(){}\[\]](?=['\"])|\.?[^\W_]+")
"""A word or number; the dot before a file's suffix is part of it. The linker's option `-l`, Go's `---`, and a quoted bracket
or semicolon, which a parser expects, are words."""
_FIELD: Final = re.compile(r"- (id|category|sign|hint): (\S.*)$")


def words(text: str) -> tuple[str, ...]:
    """Return the words and numbers of a text in their order, in lower case."""
    return tuple(_WORD.findall(text.lower()))


@cache
def shipped_failures() -> tuple[KnownFailure, ...]:
    """Return the known failures that relab ships, from its file `incidents.md`."""
    return parse_failures(files("relab.builds.suggestions").joinpath("incidents.md").read_text(encoding="utf-8"))


def parse_failures(text: str) -> tuple[KnownFailure, ...]:
    """Parse the known failures of builds in a Markdown text. Each section `## Title` is one known failure.

    Raises:
        KnownFailuresInvalidError: a section has no id, category, sign or advice, or an id occurs twice.
    """
    failures: dict[str, KnownFailure] = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        failure = _failure(section)
        if failure.id in failures:
            raise KnownFailuresInvalidError(
                f"The id {failure.id!r} of {failure.title!r} occurs twice.",
                remedy="Give each section an id of its own.",
            )
        failures[failure.id] = failure
    return tuple(failures.values())


def _failure(section: str) -> KnownFailure:
    title, *lines = section.splitlines() or [""]
    fields: dict[str, list[str]] = {"id": [], "category": [], "sign": [], "hint": []}
    advice: list[str] = []
    for line in lines:
        found = _FIELD.match(line)
        if found:
            fields[found[1]].append(found[2])
        else:
            advice.append(line)
    fix = " ".join(" ".join(advice).split())
    needed = {**fields, "advice": [fix] if fix else []}
    missing = [name for name, values in needed.items() if not values and name != "hint"]
    if missing:
        raise KnownFailuresInvalidError(
            f"The section {title!r} has no {' and no '.join(missing)}.", remedy="Add it, as in the other sections."
        )
    signs = tuple(words(sign) for sign in fields["sign"])
    hints = tuple(words(hint) for hint in fields["hint"])
    return KnownFailure(fields["id"][0], title.strip(), fields["category"][0], signs, fix, hints)
