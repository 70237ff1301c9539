"""`lab incidents postmortem`: writes Markdown, HTML and JSON, and escapes hostile text."""

from __future__ import annotations

import pytest

from relab.bootstrap import build
from relab.core.clock import SystemClock
from relab.settings import load_settings
from support.incidents.stored import begun, mended
from support.lab.cli import Lab
from support.lab.in_process import InProcessLab
from support.storage.migrated import migrate

EXIT_FAILED, EXIT_UNAVAILABLE = 1, 69


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, str, str]:
    """Return a home, the id of a closed incident, and the id of an open one with a hostile title."""
    lab = InProcessLab(tmp_path_factory.mktemp("home"), {})
    services = build(load_settings(lab.home))
    migrate(services.database)
    log, now_us = services.incidents.log, SystemClock().now_us()
    ids = mended(log, "shop", now_us), begun(log, "shop", now_us, title="\x1b[2J <script>alert(1)</script>")
    services.close()
    return lab, *ids


def test_postmortem_is_written_as_markdown_page_and_json(known: tuple[Lab, str, str]) -> None:
    lab, over, _ = known

    told = lab.run("incidents", "postmortem", over).out
    written = lab.json("incidents", "postmortem", over, "--html", "told.html", "--markdown", "told.md")

    assert told.startswith("# Postmortem: errors.pct is 38")
    assert (lab.home / "told.md").read_text() == told
    assert (lab.home / "told.html").read_text().startswith("<!doctype html>")
    assert written["files"] == [str((lab.home / name).resolve()) for name in ("told.html", "told.md")]
    assert [each["has_helped"] for each in written["postmortem"]["actions"]] == [False, True]


def test_open_incident_has_a_postmortem_without_hostile_text(known: tuple[Lab, str, str]) -> None:
    lab, _, still_open = known

    told = lab.run("incidents", "postmortem", still_open).out

    assert "This incident is not over" in told
    assert "\x1b" not in told
    assert "<script" not in told.replace("\\<", "")


def test_files_are_replaced_only_on_request(known: tuple[Lab, str, str]) -> None:
    lab, over, _ = known
    (lab.home / "mine.md").write_text("mine")

    refused = lab.run("incidents", "postmortem", over, "--markdown", "mine.md", code=EXIT_FAILED)
    lab.run("incidents", "postmortem", over, "--markdown", "mine.md", "--force")
    away = lab.run("incidents", "postmortem", over, "--html", "none/told.html", code=EXIT_UNAVAILABLE)

    assert "--force" in refused.err
    assert (lab.home / "mine.md").read_text().startswith("# Postmortem")
    assert "cannot be written" in away.err
    assert "incident_not_found" in lab.run("incidents", "postmortem", "none", "--json", code=EXIT_FAILED).out
