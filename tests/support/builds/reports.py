"""JUnit XML files, and build reports as a CI sends them."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import quoteattr


def junit(**outcomes: str) -> str:
    """Return a JUnit XML file with these tests: `p` passed, `f` failed, `s` skipped."""
    return junit_of(outcomes)


def junit_of(outcomes: dict[str, str]) -> str:
    """Return a JUnit XML file with the outcome of each test, in the letters of `junit`."""
    inner = {"p": "", "f": '<failure message="expected 3"/>', "s": "<skipped/>"}
    cases = "".join(f"<testcase name={quoteattr(name)}>{inner[each]}</testcase>" for name, each in outcomes.items())
    return f"<testsuite>{cases}</testsuite>"


def report(project: str, number: int, log: str = "", **fields: Any) -> dict[str, Any]:
    """Return the report of build `number` of a project, which started `number` minutes after 01:00."""
    started_at = f"2026-05-01T{1 + number // 60:02}:{number % 60:02}:00Z"
    return {"project": project, "id": str(number), "started_at": started_at, "log": log, "job": "test", **fields}
