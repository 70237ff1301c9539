"""The public interface of scenarios: list them, read one, run it on a testbed, and draw a conclusion from the run."""

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
from relab.testbed.scenarios.runner import Journal, ReportStep, Run, Section, share_met
from relab.testbed.scenarios.variables import load_variables, read_overrides

if TYPE_CHECKING:
    from relab.load.models import LoadResult

__all__ = [
    "Conclusion",
    "Scenario",
    "ScenarioResult",
    "Section",
    "find_scenario",
    "parse_scenario",
    "read_overrides",
    "run_scenario",
    "shipped_names",
]

WARM_UP_S: Final = 3.0
"""The load runs this long before the first check, because the first requests are slower than those that follow."""
TOKEN: Final = "actions_token"  # noqa: S105 a name
_ADDRESSES: Final = {"target_url": "target", "chaos_url": "chaos", "actions_url": "actions"}


class Conclusion(StrEnum):
    """The conclusion from a scenario's run: whether the service kept its steady state, or why that is unknown.

    Checks during the method do not influence the conclusion; `ScenarioResult.share_met_during` summarises them.
    """

    HELD = "held"
    """The run was completed without problems, and the checks before and after the method found the steady state."""
    DEVIATED = "deviated"
    """The service was not in its steady state after the method."""
    UNDECIDED = "undecided"
    """The service was not in its steady state before, or the run was aborted, or its rollbacks failed."""
    INTERRUPTED = "interrupted"
    """The caller stopped the run."""


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The result of a finished run of a scenario (a scripted experiment in chaostoolkit's format).

    Attributes:
        conclusion: the conclusion about the service.
        journal: the record of the run in chaostoolkit's format.
        problems: what went wrong in the run, such as an abort or failed rollbacks, as messages.
        load: the results of the background load; None without a load.
    """

    conclusion: Conclusion
    journal: Journal
    problems: tuple[str, ...]
    load: LoadResult | None

    @property
    def share_met_during(self) -> float | None:
        """The share, 0 to 1, of checks that found the service in its steady state while the scenario's steps ran.

        None if there were no checks during the steps (the scenario's method).
        """
        return share_met(self.journal["steady_states"]["during"])


def run_scenario(
    scenario: Scenario,
    addresses: Addresses,
    *,
    rate_per_s: float,
    stop: Event,
    report: ReportStep,
    overrides: Mapping[str, Any] | None = None,
    make_token: Callable[[], str] | None = None,
) -> ScenarioResult:
    """Run a scenario on a testbed to its end.

    Args:
        scenario: the scenario to run.
        addresses: the testbed's addresses, for the variables `target_url`, `chaos_url` and `actions_url`.
        rate_per_s: number of requests per second of the background load, which stands for users; 0 for no load.
        stop: an event that any thread may set to end the run early; the rollbacks still run.
        report: is called with a message about each step, from the thread that performs it.
        overrides: values for variables of the scenario's configuration, by name.
        make_token: returns the token for the variable `actions_token`; called only if the scenario has this variable.

    Raises:
        ScenarioError: the scenario's variables cannot be resolved; nothing was run.
        NoServerError: the testbed lacks a server that the scenario needs; nothing was run.
        PlanError, UnreachableTargetError: the load is invalid, or the target does not accept it; nothing was run.
    """
    given = _given(scenario, addresses, make_token)
    variables = load_variables(scenario.experiment, os.environ, given, overrides or {})
    run = Run(scenario, variables, stop, report)
    result: LoadResult | None = None
    if rate_per_s > 0:
        # Without a load, aiohttp is not needed.
        from relab.testbed.scenarios.background import BackgroundLoad  # noqa: PLC0415

        with BackgroundLoad(addresses.target, rate_per_s) as users:
            stop.wait(WARM_UP_S)
            run.run()
            result = users.result()
    else:
        run.run()
    run.journal["relab"] = {"version": __version__, "load": None if result is None else _summary(result)}
    return ScenarioResult(_conclusion(run), run.journal, tuple(run.problems), result)


def _given(scenario: Scenario, addresses: Addresses, make_token: Callable[[], str] | None) -> dict[str, Any]:
    wanted, given = scenario.experiment.configuration, {}
    for variable, part in _ADDRESSES.items():
        if variable in wanted:
            given[variable] = getattr(addresses, part)
            if given[variable] is None:
                raise NoServerError(
                    f"{scenario.name} needs the {part} server, and the testbed does not run it.",
                    remedy="Restart the testbed: lab testbed down, lab testbed up.",
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
