"""Names in Prometheus rules and dashboard panels: each queried metric and label is exported by the code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from relab.bootstrap import Services
from rig.waiting import wait_until
from support.api.client import running_api
from support.monitoring.exported import exported_labels
from support.monitoring.files import Query, panel_queries, panels, rule_queries, rules
from support.monitoring.promql import names_in

NOBODY = "http://127.0.0.1:9"
"""The URL of an unused port."""
OF_PROMETHEUS = frozenset({"job", "instance"})
"""The labels that Prometheus adds to each scraped series."""
SHARED = (
    "relab_build", "relab_jobs", "relab_rca_", "relab_agent_runs_awaiting", "relab_agent_runs_unprojected",
    "relab_rollouts", "relab_incident",
)  # fmt: skip
"""Prefixes of the metrics that all servers on one database export with the same values."""


@pytest.fixture
def exported(make_services: Callable[..., Services]) -> dict[str, frozenset[str]]:
    """Return `{metric: labels}` of all series that a server with a responder exports."""
    services = make_services(
        target_api_base_url=NOBODY, action_server_url=NOBODY, action_server_token="t", poll_interval_seconds=300.0
    )
    with running_api(services) as api:
        wait_until(lambda: api.get("/agent/status").json()["polls"] == 1, what="the first poll")
        found = exported_labels(api.app.state.metrics.registry)  # type: ignore[attr-defined]  # Starlette's app
    return {**found, "up": frozenset()}


def with_records(exported: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Add recorded series to the exported ones, each with all labels of the series that its query reads."""
    found = dict(exported)
    for rule in rules():
        if "record" in rule:
            names = names_in(rule["expr"])
            read = {label for name, _ in names.selectors for label in found.get(name, ())}
            found[rule["record"]] = frozenset(read - {"le"})
    return found


def unknown_names(query: Query, known: dict[str, frozenset[str]]) -> set[str]:
    """Return the metrics and labels in a query that are not in `known`."""
    names = names_in(query.expr)
    wrong = {name for name, _ in names.selectors if name not in known}
    labels = OF_PROMETHEUS.union(*(known.get(name, ()) for name, _ in names.selectors))
    for name, selected in names.selectors:
        wrong |= {f"{name}{{{label}}}" for label in selected - known.get(name, frozenset()) - OF_PROMETHEUS}
    return wrong | (names.grouping - labels) | (query.legend - labels)


def test_rules_and_panels_query_what_is_exported(exported: dict[str, frozenset[str]]) -> None:
    known = with_records(exported)

    wrong = {
        query.where: unknown
        for query in (*rule_queries(), *panel_queries())
        if (unknown := unknown_names(query, known))
    }

    assert wrong == {}


@pytest.mark.parametrize(
    ("expr", "unknown"),
    [
        ('rate(relab_bilds_total{job="relab"}[5m])', {"relab_bilds_total"}),
        ('sum by (project) (relab_builds_total{state="failed"})', {"relab_builds_total{state}"}),
        ("sum by (branch) (relab_builds_total)", {"branch"}),
        ("relab:builds:increase1h / on (projekt) relab_builds_total", {"projekt"}),
        ("relab_build_duration_seconds", {"relab_build_duration_seconds"}),
    ],
)
def test_name_that_is_not_exported_is_found(exported: dict[str, frozenset[str]], expr: str, unknown: set[str]) -> None:
    assert unknown_names(Query("a panel", expr, frozenset()), with_records(exported)) == unknown


def test_totals_of_the_database_are_not_summed_over_servers() -> None:
    for query in (*rule_queries(), *panel_queries()):
        shared = [name for name, _ in names_in(query.expr).selectors if name.startswith(SHARED)]
        if shared:
            assert any(text in query.expr for text in ("without (instance)", "max by (", "max(", "min by (")), query


def test_each_panel_has_title_description_and_unit() -> None:
    for name, panel in panels():
        assert panel["title"], name
        assert len(panel["description"].split()) >= 5, (name, panel["title"])
        assert panel["fieldConfig"]["defaults"]["unit"], (name, panel["title"])
        assert panel["datasource"]["uid"] == "relab-prometheus", (name, panel["title"])
        assert all(target["legendFormat"] for target in panel["targets"]), (name, panel["title"])
