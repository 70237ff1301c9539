"""Measure the rules for unknown sources on labelled runs of further harnesses: `python -m evals.rca --further FOLDER`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from evals.datasets.tau2_bench import messages_of_simulation, run_of_simulation
from evals.rca.cases import Case
from evals.rca.figures import Figure
from evals.rca.further_cases import (
    agent_error_bench,
    agent_process_bench,
    as_calls,
    as_messages,
    halves,
    tau2_dialogues,
    tracer_traj,
)
from evals.rca.measuring import step_row
from evals.rca.predictions import Analysed, Prediction, analyse_case
from evals.rca.rules import STEP_RULES, second_step
from relab.rca.ranking import RankingModels
from relab.telemetry.models import AgentRun


def read_further(folder: Path) -> Iterator[tuple[str, list[Case]]]:
    """Yield (name, cases) of each set; without cases if its files are absent from `folder`."""
    yield "TracerTraj code", list(tracer_traj(folder))
    yield "AgentErrorBench GAIA", list(agent_error_bench(folder))
    for words, shape in (("tool calls", as_calls), ("plain messages", as_messages)):
        yield f"AgentProcessBench HotpotQA as {words}", list(agent_process_bench(folder, shape))
    for domain in ("retail", "telecom"):
        for words, convert in (("the agent's messages", run_of_simulation), ("all messages", messages_of_simulation)):
            yield f"tau2-bench {domain} as {words}", list(tau2_dialogues(folder, domain, convert))


def measure_further(cases: Sequence[Case]) -> tuple[dict[str, dict[str, dict[str, Figure]]], list[str]]:
    """Return ({half: {method: figures}}, problems of quotations and citations) for one set."""
    tables: dict[str, dict[str, dict[str, Figure]]] = {}
    problems: list[str] = []
    rules: dict[str, Callable[[AgentRun], Prediction]] = {**STEP_RULES, "second step": second_step}
    for half, chosen in halves(cases).items():
        analysed: list[Analysed] = [analyse_case(case, RankingModels(sources=())) for case in chosen]
        problems += [problem for item in analysed for problem in item.check.problems]
        methods: Mapping[str, list[Prediction]] = {
            **{name: [rule(case.run) for case in chosen] for name, rule in rules.items()},
            "relab, source not known": [item.prediction for item in analysed],
        }
        tables[half] = {name: step_row(list(zip(chosen, found, strict=True))) for name, found in methods.items()}
    return tables, problems
