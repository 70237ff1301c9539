"""Labelled runs of harnesses that no model was trained on, and that the rules were not first made for.

    FOLDER/agent-process-bench/hotpotqa.jsonl            AgentProcessBench, the part HotpotQA
    FOLDER/agent-error-bench/gaia_labels.json, GAIA/     AgentErrorBench, the part GAIA
    FOLDER/tau2-bench/traces_retail_gpt41.json.gz, …     tau2-bench with four models, as MtM-Bench publishes it
    FOLDER/tracer-traj/tracertraj-code-test.parquet      TracerTraj, the test part of code

A set whose files are absent has no cases. Labels stay in `Case.truth`.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import duckdb

from evals.datasets import tau2_bench
from evals.datasets.source import Body, Record, read_json
from evals.datasets.synthetic_clock import moment
from evals.rca.cases import Case, Truth

Shape: TypeAlias = Callable[[Sequence[Record]], Body]
"""Makes a run of the messages of a log: `as_calls` or `as_messages`."""

AGENT: Final = "assistant"

SEED: Final = 20_261_126
"""Draws the halves; it was fixed before any label was read."""

_ACTION = re.compile(
    r"<action>\s*(?:tool|action):\s*(?P<name>[\w.-]+)\s*(?:parameters:\s*(?P<arguments>.*?))?\s*</action>", re.DOTALL
)
_OBSERVED = re.compile(
    r"Current Observation:\s*(.*?)(?=\n\s*(?:Instructions:|Available Tools:|Now it's|Your adm))", re.DOTALL
)
_REJECTED = re.compile(r"\bResult: Error|^Error|Error executing|Unknown tool|Invalid action|error:")


def halves(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Split cases by task into a development half, which was read, and a held-out half, of which only figures were seen.

    Cases without a labelled step are left out after the split.
    """
    groups = sorted({case.group for case in cases})
    random.Random(SEED).shuffle(groups)
    development = set(groups[: len(groups) // 2])
    labelled = [case for case in cases if case.truth.step_id is not None]
    return {
        "development": [case for case in labelled if case.group in development],
        "held out": [case for case in labelled if case.group not in development],
    }


def tracer_traj(folder: Path) -> Iterator[Case]:
    """MetaGPT teams that write code. Labels: an injected mistake or a model's diagnosis, checked by running again."""
    path = folder / "tracer-traj" / "tracertraj-code-test.parquet"
    if not path.is_file():
        return
    found = duckdb.execute("select question, history, mistake_step, mistake_agent from read_parquet(?)", [str(path)])
    for number, (question, history, step, agent) in enumerate(found.fetchall()):
        messages = [{"role": entry["name"], "content": entry["content"]} for entry in history]
        yield _case("TracerTraj code", str(number), question, as_messages(messages), Truth(f"turn-{int(step)}", agent))


def agent_process_bench(folder: Path, shape: Shape) -> Iterator[Case]:
    """Answers to HotpotQA by an agent with a search. Labels: people's verdict on each step; the first wrong step counts."""
    path = folder / "agent-process-bench" / "hotpotqa.jsonl"
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as lines:
        records: list[Record] = [json.loads(line) for line in lines]
    for record in records:
        wrong = [f"turn-{place}" for place, verdict in record["step_labels"].items() if verdict == -1]
        truth = Truth(wrong[0], AGENT) if wrong and record["final_label"] == -1 else Truth()
        body = shape(record["messages"])
        yield _case("AgentProcessBench HotpotQA", record["total_index"], record["question"], body, truth)


def agent_error_bench(folder: Path) -> Iterator[Case]:
    """Research on GAIA by an agent that writes memory, reflection, plan and action. Labels: people's critical step."""
    place = folder / "agent-error-bench"
    for label in read_json(place / "gaia_labels.json") if place.is_dir() else ():
        path = place / "GAIA" / f"{label['trajectory_id']}.json"
        if path.is_file():
            first, *others = read_json(path)["messages"]
            messages = [first, *map(_with_call, others)]
            truth = Truth(f"turn-{2 * label['critical_failure_step'] - 1}", AGENT)
            task = label["trajectory_id"].rpartition("_")[2]
            yield _case("AgentErrorBench GAIA", label["trajectory_id"], task, as_calls(messages), truth)


def tau2_dialogues(folder: Path, domain: str, convert: Callable[[Record], Body]) -> Iterator[Case]:
    """Failed first trials of dialogues with a customer. Labels: computed from gold actions (`first_wrong_turn`)."""
    for path in sorted((folder / "tau2-bench").glob(f"traces_{domain}_*.json.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as text:
            log: Record = json.load(text)
        gold = {task["id"]: task["evaluation_criteria"]["actions"] or [] for task in log["tasks"]}
        for record in log["simulations"]:
            if record["trial"] == 0 and record["reward_info"]["reward"] < 1:
                step_id = tau2_bench.first_wrong_turn(record, gold[record["task_id"]])
                truth = Truth(step_id, tau2_bench.AGENT)
                yield Case(f"tau2-bench {domain}", record["task_id"], convert(record), truth)


def as_messages(messages: Sequence[Record]) -> Body:
    """Return a run in which each message is a step of its role, and tool calls are text: what a plain log has."""
    return _body(
        [
            tau2_bench.step_of_entry(
                index,
                message["role"],
                message["role"],
                "\n".join(filter(None, (message["content"], _calls_text(message)))),
            )
            for index, message in enumerate(messages)
        ],
        [],
    )


def _calls_text(message: Record) -> str:
    return "\n".join(json.dumps(call["function"]) for call in message.get("tool_calls") or [])


def as_calls(messages: Sequence[Record]) -> Body:
    """Return a run in which each message of the assistant is a step, and each result the end of a tool call."""
    steps: list[Body] = []
    calls: list[Body] = []
    asked: str | None = None
    waiting: list[Record] = []
    for index, message in enumerate(messages):
        if message["role"] == "user":
            asked = message["content"]
        elif message["role"] == "assistant":
            waiting = list(message.get("tool_calls") or [])
            name = f"call {waiting[0]['function']['name']}" if waiting else "reply"
            steps.append({**tau2_bench.step_of_entry(index, name, AGENT, message["content"]), "input_summary": asked})
            asked = None
        elif message["role"] == "tool" and waiting:
            calls.append(_call(index, steps[-1]["step_id"], waiting.pop(0)["function"], message["content"]))
    return _body(steps, calls)


def _call(index: int, step_id: str, request: Record, result: str) -> Body:
    is_rejected = _REJECTED.search(result, 0, 300) is not None
    call: Body = {
        "call_id": f"call-{index}",
        "step_id": step_id,
        "tool_name": request["name"],
        "status": "failure" if is_rejected else "success",
        "args_json": _arguments(request["arguments"]),
        "result_summary": result,
        "started_at": moment(index),
    }
    return {**call, "error_message": result[:2_000]} if is_rejected else call


def _arguments(text: str | None) -> Record:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"raw": text}


def _with_call(message: Record) -> Record:
    """Return a message of AgentErrorBench with its action as a tool call; a user's message is the result before it."""
    if message["role"] != "assistant":
        observed = _OBSERVED.search(message["content"])
        return {"role": "tool", "content": observed[1].strip() if observed else message["content"][-4_000:]}
    action = _ACTION.search(message["content"])
    requested = [{"function": {"name": action["name"], "arguments": action["arguments"]}}] if action else []
    return {**message, "tool_calls": requested}


def _body(steps: list[Body], calls: list[Body]) -> Body:
    return {
        "agent_name": "further",
        "environment": "further",
        "started_at": moment(0),
        "status": "failure",
        "steps": steps,
        "tool_calls": calls,
    }


def _case(dataset: str, number: object, task: str, body: Body, truth: Truth) -> Case:
    return Case(dataset, task, {**body, "run_id": f"{dataset} {number}", "task_id": task[:100]}, truth)
