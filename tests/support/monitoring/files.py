"""The rules for Prometheus and the dashboards for Grafana, as they are in `deploy/`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import relab

PROJECT = Path(relab.__file__).parents[2]
PROMETHEUS = PROJECT / "deploy" / "prometheus"
GRAFANA = PROJECT / "deploy" / "grafana"
GUIDE = PROJECT / "docs" / "monitoring.md"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))


@dataclass(frozen=True)
class Query:
    """A query of a rule or panel.

    Attributes:
        where: the rule, or the dashboard and panel, for messages.
        expr: the PromQL.
        legend: the labels that the legend of a panel or the summary of an alert shows.
    """

    where: str
    expr: str
    legend: frozenset[str]


def rules() -> list[dict[str, Any]]:
    """Return all recording and alert rules."""
    return [
        rule
        for name in ("recording.rules.yml", "alerts.rules.yml")
        for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"]
        for rule in group["rules"]
    ]


def panels() -> list[tuple[str, dict[str, Any]]]:
    """Return all panels, each with the name of its dashboard's file."""
    return [(path.stem, panel) for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]


def rule_queries() -> list[Query]:
    """Return the queries of all rules."""
    return [
        Query(
            rule.get("record") or rule["alert"],
            rule["expr"],
            frozenset(re.findall(r"\$labels\.(\w+)", rule.get("annotations", {}).get("summary", ""))),
        )
        for rule in rules()
    ]


def panel_queries() -> list[Query]:
    """Return the queries of all panels."""
    return [
        Query(
            f"{name}: {panel['title']}",
            target["expr"],
            frozenset(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"])),
        )
        for name, panel in panels()
        for target in panel["targets"]
    ]
