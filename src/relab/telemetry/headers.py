"""Build the header of a stored run: its fields without the timeline, and the estimate of its cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from relab.telemetry.models import RunHeader
from relab.telemetry.tables import StoredRun

if TYPE_CHECKING:
    from relab.telemetry.prices import PriceTable

# Unknown fields of the run are returned too, but never replace one of these.
_KNOWN: Final = tuple(name for name in StoredRun._fields if name in RunHeader.model_fields)


def header_of(run: StoredRun, prices: Callable[[], PriceTable]) -> RunHeader:
    """Return the header of a stored run: its fields without the timeline.

    `prices` returns the table of prices; it is called only to estimate the cost of a run without a reported cost.
    """
    known: dict[str, Any] = {name: getattr(run, name) for name in _KNOWN}
    known |= {"outcome_evidence": from_json(run.outcome_evidence or "[]"), "counts": run.counts}
    data = from_json(run.data)
    known["agents"] = _with_outcomes(data.get("agents") or [], from_json(run.agent_outcomes or "[]"))
    header = RunHeader.model_validate({**data, **known, "cost_estimate": None})
    if header.cost is None or header.cost.is_reported:
        return header
    # Only here, because it loads the prices.
    from relab.telemetry.prices import estimate_run

    return header.model_copy(update={"cost_estimate": estimate_run(header, prices())})


def _with_outcomes(reported: Iterable[dict[str, Any]], decided: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join two lists of agents by the agents' names, and return the joined agents.

    Args:
        reported: the fields of each agent as the sender of the run reported them.
        decided: the fields of each agent that relab computed. A value that is not null replaces the reported value.
    """
    agents = {agent["name"]: agent for agent in reported}
    for agent in decided:
        known = {name: value for name, value in agent.items() if value is not None}
        agents[agent["name"]] = {**agents.get(agent["name"], {}), **known}
    return list(agents.values())
