"""The agent of the demo: it plans, calls tools, observes their replies, and answers.

It decides with rules that follow a prompt (`demo/prompt.py`) instead of a model, so that the demo needs no model and
fails the same way every time. Everything else is real.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from demo.prompt import Instruction, Prompt
from demo.recorder import Recorder, StepRecord
from demo.tools import TOOLS, Reply, Toolbox


class AgentError(Exception):
    """The agent failed: it has no answer that its caller accepts."""


class CallBudgetSpentError(AgentError):
    """The run has made all the tool calls that the prompt allows."""


class NoAnswerError(AgentError):
    """The tools returned no message that answers the question."""


class AnswerRejectedError(AgentError):
    """The caller rejected the answer because it does not mention a required text."""


@dataclass(frozen=True)
class Task:
    """A caller's request.

    Attributes:
        task_id: the id of the task.
        topic: selects the instructions of the prompt.
        question: the question.
        facts: values that come with the question; the agent uses them as parameters of tools.
        must_mention: the texts that a right answer contains.
    """

    task_id: str
    topic: str
    question: str
    facts: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    must_mention: tuple[str, ...] = ()


@dataclass(frozen=True)
class Move:
    """One tool call that the agent intends to make."""

    instruction: Instruction
    args: dict[str, str]


class Agent:
    """Answers one task with its tools.

    Args:
        prompt: the prompt that the agent follows.
        toolbox: the tools that it can call.
        recorder: records every step, tool call and guardrail event.
        wait: waits for the given seconds, when a tool answers with Retry-After.
    """

    def __init__(
        self, prompt: Prompt, toolbox: Toolbox, recorder: Recorder, *, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._prompt = prompt
        self._toolbox = toolbox
        self._recorder = recorder
        self._wait = wait
        self._calls_left = prompt.max_calls

    def run(self, task: Task) -> str:
        """Work on a task and return the answer.

        Raises:
            AgentError: there is no answer, the call budget is spent, or the caller rejects the answer.
            httpx.HTTPError: a tool failed, and a retry was not possible.
        """
        facts = {"question": task.question, **task.facts}
        said: list[str] = []
        pending = self._plan(task)
        while pending:
            instruction = pending.popleft()
            for move in self._bind(instruction, facts):
                reply = self._act(move)
                if self._must_repeat(instruction, reply):
                    pending.appendleft(instruction)
                facts |= {name: value for name, value in reply.body.items() if isinstance(value, str)}
                if "message" in reply.body:
                    said.append(str(reply.body["message"]))
        return self._answer(task, said)

    def _plan(self, task: Task) -> deque[Instruction]:
        with self._recorder.step("Plan", task.question) as step:
            instructions = self._prompt.playbook(task.topic)
            step.output_summary = f"{task.topic}: {', '.join(instruction.tool for instruction in instructions)}"
        return deque(instructions)

    def _bind(self, instruction: Instruction, facts: Mapping[str, str | Sequence[str]]) -> list[Move]:
        """Return the tool calls of an instruction, with parameters from the known facts.

        Unknown parameters are left out.
        """
        if instruction.each is not None:
            return [Move(instruction, {instruction.each: value}) for value in facts[f"{instruction.each}s"]]
        parameters = TOOLS[instruction.tool].parameters
        known = {name: facts[name] for name in parameters if name in facts}
        return [Move(instruction, {name: value for name, value in known.items() if isinstance(value, str)})]

    @staticmethod
    def _must_repeat(instruction: Instruction, reply: Reply) -> bool:
        return instruction.until_ready and reply.body.get("state") != "ready"

    def _act(self, move: Move) -> Reply:
        tool = move.instruction.tool
        with self._recorder.step(f"Use {tool}", json.dumps(move.args)) as step:
            while True:
                self._spend_call(step)
                try:
                    reply = self._call(step, tool, move.args)
                except httpx.HTTPStatusError as error:
                    wait_s = self._acceptable_wait_s(error.response)
                    if wait_s is None:
                        raise
                    step.retries += 1
                    self._wait(wait_s)
                else:
                    step.output_summary = reply.text
                    return reply

    def _call(self, step: StepRecord, tool: str, args: dict[str, str]) -> Reply:
        with self._recorder.tool_call(step, tool, args) as call:
            reply = self._toolbox.call(tool, args)
            call.result_summary = reply.text
            call.status_code = reply.status_code
        return reply

    def _spend_call(self, step: StepRecord) -> None:
        if self._calls_left == 0:
            message = f"The run has made the {self._prompt.max_calls} tool calls that it may make."
            self._recorder.guardrail("call_budget", message, step)
            raise CallBudgetSpentError(message)
        self._calls_left -= 1

    def _acceptable_wait_s(self, response: httpx.Response) -> float | None:
        """Return the seconds in Retry-After, or None if it is absent or exceeds the prompt's patience."""
        asked = response.headers.get("Retry-After", "")
        if not asked.isdigit() or float(asked) > self._prompt.patience_s:
            return None
        return float(asked)

    def _answer(self, task: Task, said: list[str]) -> str:
        with self._recorder.step("Answer", task.question) as step:
            if not said:
                raise NoAnswerError("The tools returned nothing that answers the question.")
            answer = " ".join(said)
            step.output_summary = answer
        for words in task.must_mention:
            if words not in answer:
                raise AnswerRejectedError(f"The caller rejected the answer: it does not mention {words!r}.")
        return answer
