"""The header of a stored run: its fields without the timeline, with the estimate of its cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic_core import from_json

from relab.telemetry.models import RunHeader
from relab.telemetry.prices import PriceTable, estimate_run
from relab.telemetry.tables import StoredRun


def header_of(run: StoredRun, prices: PriceTable) -> RunHeader:
    """Return the header of a run, as lists and details show it; its cost is estimated with `prices` if none was reported."""
    # Unknown fields of the run are returned too, but never replace a known field.
    known = {name: value for name, value in run._asdict().items() if name in RunHeader.model_fields}
    known |= {"outcome_evidence": from_json(run.outcome_evidence or "[]"), "counts": run.counts}
    data = from_json(run.data)
    known["agents"] = _with_outcomes(data.get("agents") or [], from_json(run.agent_outcomes or "[]"))
    header = RunHeader.model_validate({**data, **known, "cost_estimate": None})
    return header.model_copy(update={"cost_estimate": estimate_run(header, prices)})


def _with_outcomes(reported: Iterable[dict[str, Any]], decided: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the fields of each agent, as reported and as decided, without null."""
    agents = {agent["name"]: agent for agent in reported}
    for agent in decided:
        known = {name: value for name, value in agent.items() if value is not None}
        agents[agent["name"]] = {**agents.get(agent["name"], {}), **known}
    return list(agents.values())
