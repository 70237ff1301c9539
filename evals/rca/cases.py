"""Runs with their labels. A method receives `Case.run` only; the labels stay in `Case.truth`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evals.datasets import tau_bench, trail, trail_otlp, who_and_when
from evals.datasets.source import Body, Record, read_json
from evals.datasets.who_and_when import ALGORITHM_GENERATED, HAND_CRAFTED, Subset
from relab.core.json import parse_json
from relab.telemetry.models import AgentRun

ALGORITHM_SET = "Who&When algorithm-generated"
HAND_SET = "Who&When hand-crafted"
TRAIL_SET = "TRAIL GAIA"
PASSING_SET = "tau-bench airline, passing"
FAILING_SET = "tau-bench airline, failing"
MESSAGES_SET = "tau-bench airline, failing, each message a step"


@dataclass(frozen=True)
class Truth:
    """The annotators' labels of a run.

    Attributes:
        step_id: the step that first went wrong; None if the set has no such label. Of tau-bench it is computed.
        agent: the agent of the first mistake, as the label spells it.
        spans: pairs (id of a span, category of its error); empty if the set has no labels of spans.
    """

    step_id: str | None = None
    agent: str | None = None
    spans: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Case:
    """One run of a data set.

    Attributes:
        group: the question or task; repeats of it belong on one side of a split, and are one unit of an interval.
        body: the body of `POST /agent-runs`, which contains no label.
        export: the same run as the body of an OTLP request; None if the set has no traces.
    """

    dataset: str
    group: str
    body: Body
    truth: Truth = field(default=Truth(), compare=False)
    export: bytes | None = field(default=None, compare=False)

    @property
    def run(self) -> AgentRun:
        """The run as the API reads it from the body."""
        return AgentRun.model_validate(parse_json(json.dumps(self.body).encode()))

    @property
    def traced_run(self) -> AgentRun | None:
        """The run that the mapper makes of the trace; None if the set has no traces."""
        return trail_otlp.run_of_export(self.export) if self.export is not None else None


def read_cases(data: Path) -> dict[str, list[Case]]:
    """Return the cases of all data sets by name; `data` is the data directory."""
    found = {
        ALGORITHM_SET: list(_conversations(data, ALGORITHM_SET, ALGORITHM_GENERATED)),
        HAND_SET: list(_conversations(data, HAND_SET, HAND_CRAFTED)),
        TRAIL_SET: list(_traces(data)),
    }
    trials = list(_tau_bench_records(data))
    passing = [
        tau_bench.report_failed(tau_bench.agent_run_of_trial(record)) for record in trials if record["reward"] == 1
    ]
    failing = [record for record in trials if record["reward"] != 1]
    found[PASSING_SET] = [Case(PASSING_SET, body["task_id"], body) for body in passing]
    for name, convert, agent in (
        (FAILING_SET, tau_bench.agent_run_of_trial, tau_bench.AGENT),
        (MESSAGES_SET, tau_bench.messages_of_trial, "assistant"),
    ):
        found[name] = [_failed_trial(name, record, convert(record), agent) for record in failing]
    return found


def without_labelled_evidence(case: Case) -> Case:
    """Return the case without the steps and calls that its labels name; the labels themselves are kept."""
    gone = {span for span, _ in case.truth.spans} | {case.truth.step_id}
    steps = [step for step in case.body["steps"] if step["step_id"] not in gone]
    calls = [
        call for call in case.body["tool_calls"] if call["call_id"] not in gone and call.get("step_id") not in gone
    ]
    return Case(case.dataset, case.group, {**case.body, "steps": steps, "tool_calls": calls}, case.truth)


def renumbered(case: Case) -> Case:
    """Return the case with new, gapless ids for its steps and calls; its labels no longer match them."""
    names = {step["step_id"]: f"turn-{index}" for index, step in enumerate(case.body["steps"])}
    steps = [
        {**step, "step_id": names[step["step_id"]], "parent_step_id": names.get(step.get("parent_step_id"))}
        for step in case.body["steps"]
    ]
    calls = [
        {**call, "call_id": f"call-{index}", "step_id": names.get(call.get("step_id"))}
        for index, call in enumerate(case.body["tool_calls"])
    ]
    return Case(case.dataset, case.group, {**case.body, "steps": steps, "tool_calls": calls})


def _conversations(data: Path, name: str, subset: Subset) -> Iterator[Case]:
    folder = data / who_and_when.NAME / subset.folder
    paths = (path for path in folder.glob("*.json") if path.stem.isdecimal())
    for path in sorted(paths, key=lambda path: int(path.stem)):
        record = read_json(path)
        body = who_and_when.agent_run_of_conversation(record, subset, path.stem)
        truth = Truth(step_id=f"turn-{int(record['mistake_step'])}", agent=record["mistake_agent"])
        yield Case(name, record["question_ID"], body, truth)


def _traces(data: Path) -> Iterator[Case]:
    folder = data / trail.NAME
    for path in sorted((folder / "traces").glob("*.json")):
        trace = read_json(path)
        body = trail.agent_run_of_trace(trace)
        errors = read_json(folder / "labels" / path.name)["errors"]
        spans = frozenset((error["location"], error["category"]) for error in errors)
        yield Case(
            TRAIL_SET, body["task_id"] or body["run_id"], body, Truth(spans=spans), trail_otlp.export_of_trace(trace)
        )


def _failed_trial(name: str, record: Record, body: Body, agent: str) -> Case:
    return Case(name, body["task_id"], body, Truth(tau_bench.first_wrong_turn(record), agent))


def _tau_bench_records(data: Path) -> Iterator[Record]:
    yield from read_json(data / tau_bench.NAME / "gpt-4o-airline.json")
