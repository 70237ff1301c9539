"""Revision 0032: recommendations of ended incidents say how they ended; the downgrade deletes worst values alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from sqlalchemy import JSON, text

from relab.storage import Database
from relab.storage.migrate import downgrade, upgrade

NEEDED = "A person is needed. Repair the cache."
ENDED = "The service has been healthy for three minutes."
INCIDENT = (
    "INSERT INTO incidents (incident_id, target, opened_at, updated_at, closed_at, status, phase, severity, outcome,"
    " title, recommendation, last_seq, findings, symptoms, content)"
    " VALUES ('i', 'shop', 1, 1, :closed_at, 'open', 'learn', 'critical', NULL, 'Errors', :recommendation, 2, '[]',"
    " '{}', '{}')"
)
EVENT = (
    "INSERT INTO incident_events (incident_id, seq, kind, at, message, content, evidence)"
    " VALUES ('i', :seq, :kind, 1, :message, '{}', '[]')"
)


@pytest.mark.parametrize(
    ("closed_at", "last_kind", "message", "before", "after"),
    [
        (9, "closed", ENDED, NEEDED, ENDED),
        (9, "closed", ENDED, "", ""),
        (9, "closed", "", NEEDED, NEEDED),
        (9, "closed", "x" * 10_001, NEEDED, NEEDED),
        (9, "escalated", ENDED, NEEDED, NEEDED),
        (None, "escalated", ENDED, NEEDED, NEEDED),
    ],
    ids=["ended", "never_escalated", "empty_message", "long_message", "no_last_event", "open"],
)
def test_recommendation_of_an_ended_incident_is_the_message_of_its_last_event(
    database_at: Callable[[str], Database], closed_at: int | None, last_kind: str, message: str, before: str, after: str
) -> None:
    database = database_at("0031")
    with database.write() as unit:
        unit.session.execute(text(INCIDENT), {"closed_at": closed_at, "recommendation": before})
        unit.session.execute(text(EVENT), {"seq": 1, "kind": "escalated", "message": "A person was called."})
        unit.session.execute(text(EVENT), {"seq": 2, "kind": last_kind, "message": message})
    for _ in range(2):
        upgrade(database, "0032")
        with database.read() as session:
            assert session.execute(text("SELECT recommendation FROM incidents")).scalar_one() == after
        downgrade(database, "0031")
        with database.read() as session:
            assert session.execute(text("SELECT recommendation FROM incidents")).scalar_one() == after


def test_downgrade_deletes_the_worst_values_of_findings_which_earlier_versions_reject(
    database_at: Callable[[str], Database],
) -> None:
    finding = {"signal": "errors.pct", "detail": "worst_value", "value": 3.0}
    database = database_at("0032")
    with database.write() as unit:
        unit.session.execute(text(INCIDENT), {"closed_at": 9, "recommendation": ""})
        stored = json.dumps([{**finding, "worst_value": 9.0}, finding])
        unit.session.execute(text("UPDATE incidents SET findings = :findings"), {"findings": stored})

    downgrade(database, "0031")

    with database.read() as session:
        found = session.execute(text("SELECT findings FROM incidents").columns(findings=JSON())).scalar_one()
    assert found == [finding, finding]
