"""Runs whose tokens an older version counted in another way: a remap corrects the sums over runs too."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from relab.bootstrap import Services
from relab.storage.base import table_of
from relab.telemetry import records, remapping
from relab.telemetry.models import AgentRun
from relab.telemetry.tables import AgentRunRow
from support.telemetry.runs import minimal_run

HOURS = 24.0 * 365 * 20
"""A window that includes every run."""


def test_remap_corrects_the_sums_of_tokens_that_an_older_version_counted(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = minimal_run(cost={"tokens_prompt": 70, "tokens_completion": 20})
    # The writer imports `remapping` at its first use; `remapping` must keep the present function.
    assert remapping.token_usage is records.token_usage
    with monkeypatch.context() as older:
        older.setattr(records, "token_usage", lambda _fields: '{"sums": [50, null, null, 20, null], "models": null}')
        services.telemetry.ingest(AgentRun.model_validate(body))
    with services.database.write() as unit:
        unit.session.execute(update(table_of(AgentRunRow)).values(outcome_version=1))
    assert services.telemetry.overview(HOURS).tokens.prompt == 50

    assert sum(done.counts.runs for done in services.telemetry.remap()) == 1
    assert services.telemetry.overview(HOURS).tokens.prompt == 70
    services.telemetry.delete(body["run_id"])
    assert services.telemetry.overview(HOURS).tokens.prompt is None
