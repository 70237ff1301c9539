"""Logging: one line of JSON per event, and tracebacks without the values of variables."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from relab.core.logging import bound_contextvars, configure_logging, get_logger


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Restore the logging configuration of the test process after each test."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def fail_with_a_secret_in_hand() -> None:
    """Raise while a local variable holds a secret, built at run time because tracebacks quote source lines."""
    password = f"hunter{2}-secret"
    raise RuntimeError(f"it broke after {len(password)} characters")


@pytest.mark.parametrize("json_lines", [True, False])
def test_traceback_shows_places_without_values_of_variables(
    json_lines: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", json_lines=json_lines)
    try:
        fail_with_a_secret_in_hand()
    except RuntimeError as error:
        get_logger("relab.test").error("job_failed", exc_info=error)
    written = capsys.readouterr().err
    assert "fail_with_a_secret_in_hand" in written
    assert "it broke after 14 characters" in written
    assert "hunter2-secret" not in written


def test_each_event_is_one_line_of_json_with_its_bound_fields(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", json_lines=True)
    with bound_contextvars(job_id="j1"):
        get_logger("relab.test").warning("odd", text="{0} %s \n line two")
        logging.getLogger("some.library").warning("half %s", "done")
    own, foreign = map(json.loads, capsys.readouterr().err.splitlines())
    assert own["event"] == "odd"
    assert own["text"] == "{0} %s \n line two"
    assert own["job_id"] == "j1"
    assert own["level"] == "warning"
    assert foreign["event"] == "half done"
    assert foreign["logger"] == "some.library"
    assert foreign["job_id"] == "j1"
    assert own["timestamp"].endswith("Z")


def test_events_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("WARNING", json_lines=True)
    get_logger("relab.test").info("quiet")
    logging.getLogger("httpx").info("quiet")
    assert capsys.readouterr().err == ""
