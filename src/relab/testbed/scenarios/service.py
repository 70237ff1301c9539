"""The doors of scenarios: list them, read one, run it on a testbed, and what its end means."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from threading import Event
from typing import TYPE_CHECKING, Any, Final

from relab import __version__
from relab.testbed.models import Addresses
from relab.testbed.scenarios.errors import NoServerError
from relab.testbed.scenarios.reading import Scenario, find_scenario, parse_scenario, shipped_names
from relab.testbed.scenarios.runner import Journal, Run, Section, Tell, share_met
from relab.testbed.scenarios.variables import load_variables, read_overrides

if TYPE_CHECKING:
    from relab.load.models import LoadResult

__all__ = [
    "Conclusion",
    "Outcome",
    "Scenario",
    "Section",
    "find_scenario",
    "parse_scenario",
    "read_overrides",
    "run_scenario",
    "shipped_names",
]

WARM_UP_S: Final = 3.0
"""How long the load goes on before the first look: the first requests of all are slower than those that follow."""
TOKEN: Final = "actions_token"  # noqa: S105 a name
_ADDRESSES: Final = {"target_url": "target", "chaos_url": "chaos", "actions_url": "actions"}


class Conclusion(StrEnum):
    """What a run says of the service."""

    HELD = "held"
    DEVIATED = "deviated"
    UNDECIDED = "undecided"
    """The service was not well before, or the run was aborted, or its rollbacks failed."""
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run that has ended.

    Attributes:
        problems: what a reader must know before believing the conclusion.
    """

    conclusion: Conclusion
    journal: Journal
    problems: tuple[str, ...]
    load: LoadResult | None

    @property
    def share_met_during(self) -> float | None:
        """The share of looks during the method that found the steady state met; None without any."""
        return share_met(self.journal["steady_states"]["during"])


def run_scenario(
    scenario: Scenario,
    addresses: Addresses,
    *,
    rate_per_s: float,
    stop: Event,
    tell: Tell,
    overrides: Mapping[str, Any] | None = None,
    make_token: Callable[[], str] | None = None,
) -> Outcome:
    """Run a scenario on a testbed to its end.

    Args:
        scenario: what is run.
        addresses: of the testbed; they stand instead of `target_url`, `chaos_url` and `actions_url`.
        rate_per_s: of the background load; 0 is none.
        stop: ends it early when it is set, from any thread. The rollbacks are run then too.
        tell: is told each step, from whichever thread does it.
        overrides: of the scenario's configuration.
        make_token: makes the token for `actions_token`; asked only if the scenario has such a variable.

    Raises:
        ScenarioError: its variables cannot be settled; nothing was done.
        NoServerError: it speaks to a server that the testbed does not have; nothing was done.
        PlanError, UnreachableTargetError: the load cannot be; nothing was done.
    """
    given = _given(scenario, addresses, make_token)
    variables = load_variables(scenario.experiment, os.environ, given, overrides or {})
    run = Run(scenario, variables, stop, tell)
    result: LoadResult | None = None
    if rate_per_s > 0:
        from relab.testbed.scenarios.customers import Customers  # noqa: PLC0415 aiohttp is for those who want a load

        with Customers(addresses.target, rate_per_s) as customers:
            stop.wait(WARM_UP_S)
            run.run()
            result = customers.result()
    else:
        run.run()
    run.journal["relab"] = {"version": __version__, "load": None if result is None else _summary(result)}
    return Outcome(_conclusion(run), run.journal, tuple(run.problems), result)


def _given(scenario: Scenario, addresses: Addresses, make_token: Callable[[], str] | None) -> dict[str, Any]:
    wanted, given = scenario.experiment.configuration, {}
    for variable, part in _ADDRESSES.items():
        if variable in wanted:
            given[variable] = getattr(addresses, part)
            if given[variable] is None:
                raise NoServerError(
                    f"{scenario.name} needs the {part} server, and the testbed runs none.",
                    remedy="Start it anew: lab testbed down, lab testbed up.",
                )
    if TOKEN in wanted and make_token is not None:
        given[TOKEN] = make_token()
    return given


def _conclusion(run: Run) -> Conclusion:
    status, rollbacks = run.journal["status"], run.journal["rollbacks"]
    if status == "interrupted":
        return Conclusion.INTERRUPTED
    if run.journal["deviated"]:
        return Conclusion.DEVIATED
    is_clean = status == "completed" and not run.problems and all(row["status"] == "succeeded" for row in rollbacks)
    return Conclusion.HELD if is_clean else Conclusion.UNDECIDED


def _summary(result: LoadResult) -> dict[str, Any]:
    latency = result.latency
    return {
        "offered": result.counts.offered,
        "good": result.counts.good,
        "bad": result.counts.bad,
        "dropped": result.counts.dropped,
        "p50_ms": latency.p50_ms,
        "p95_ms": latency.p95_ms,
        "p99_ms": latency.p99_ms,
    }
