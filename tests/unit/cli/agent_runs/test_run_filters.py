"""Run filters: every field of `RunFilter` has one command-line option and one query parameter."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from relab.api.agent_runs import run_filter
from relab.cli.agent_runs.filters import RunFilterOptions, takes_run_filter
from relab.core.clock import parse_time
from relab.core.errors import InvalidInputError
from relab.telemetry.models import RunFilter

NOW_US = parse_time("2024-01-15T10:30:00Z")
VALUES = {"all_traces": True, "status": "failure", "outcome": "failed", "since": "7d", "until": "2024-01-15T10:00:00Z"}
ALL = RunFilterOptions(**{field.name: VALUES.get(field.name, "x") for field in dataclasses.fields(RunFilterOptions)})  # type: ignore[arg-type]


def test_every_field_of_the_filter_has_an_option() -> None:
    assert ALL.read(NOW_US).model_dump(exclude_none=True).keys() == RunFilter.model_fields.keys()


def test_ages_count_back_from_now() -> None:
    found = ALL.read(NOW_US)

    assert found.started_after_us == parse_time("2024-01-08T10:30:00Z")
    assert found.started_before_us == parse_time("2024-01-15T10:00:00Z")


def test_text_that_is_neither_a_time_nor_an_age_is_rejected_with_its_option() -> None:
    with pytest.raises(InvalidInputError, match="--until"):
        RunFilterOptions(until="soon").read(NOW_US)


def test_command_gets_its_own_arguments_and_the_filter() -> None:
    app = typer.Typer()
    given: list[tuple[RunFilterOptions, int]] = []

    @app.command()
    @takes_run_filter
    def show(options: RunFilterOptions, limit: Annotated[int, typer.Option(help="Number.")] = 5) -> None:
        given.append((options, limit))

    result = CliRunner().invoke(app, ["--agent", "shop", "--limit", "7", "--status", "success"])

    assert result.exit_code == 0, result.output
    assert given == [(RunFilterOptions(agent="shop", status="success"), 7)]


def test_every_field_of_the_filter_has_a_query_parameter() -> None:
    parameters = inspect.signature(run_filter).parameters
    times = {"started_after", "started_before"}
    given = {name: "2024-01-15T10:30:00Z" if name in times else "x" for name in parameters}

    found = run_filter(**{**given, "status": "failure", "outcome": "failed", "all_traces": True})

    assert found.model_dump(exclude_none=True).keys() == RunFilter.model_fields.keys()
    assert found.started_after_us == NOW_US
