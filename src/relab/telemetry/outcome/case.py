"""A run prepared for the rules of its outcome: its steps and calls in order, its answer, and each agent's part."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

from relab.telemetry.agent_models import ReportedAgent
from relab.telemetry.models import CALL, STEP, RunFields, RunStatus, StepStatus
from relab.telemetry.outcome.activities import AGENT_ROLE, MODEL_ROLE, RunActivity, in_order
from relab.telemetry.outcome.phrases import ENDED, STEP_LIMIT, find_inability, is_tool_request, plain_reason
from relab.telemetry.outcome.recovery import RunRecovery
from relab.telemetry.outcome.reported_errors import filled
from relab.telemetry.outcome_models import AgentOutcome, AgentRelation, OutcomeRule

MIN_REPEATED = 4
"""If an agent makes this number of equal calls with equal results in a row, it is in a loop."""
_MAX_STOP_NOTICE_CHARS = 300
"""A longer answer than this is an answer, even if it begins with the notice of a step limit."""
_BARE_REQUESTS = re.compile(r"(?:\S+\(\)\n?)+")
"""Requests of tools whose arguments were not captured, as a timeline shows them."""


class Answer(NamedTuple):
    """The text of a run's final answer, and where it was found.

    `kind` is `run` or `step`, `ref_id` is the id of the run or of the step, and `field` is the name of the field with
    the answer.
    """

    text: str
    kind: str
    ref_id: str
    field: str

    @property
    def is_stop_notice(self) -> bool:
        """Whether the answer is only a notice that the agent was stopped at a limit of steps."""
        return len(self.text) <= _MAX_STOP_NOTICE_CHARS and STEP_LIMIT.search(self.text) is not None


class Case:
    """One run, prepared for the rules that decide its outcome: its activities in order, and facts derived from them.

    Args:
        fields: the fields of the run.
        activities: the steps and tool calls of the run, in any order.
    """

    def __init__(self, fields: RunFields, activities: Iterable[RunActivity]) -> None:
        self.fields = fields
        self.activities = in_order(activities)
        self.steps = [activity for activity in self.activities if activity.kind == STEP]
        self.last_model = self._last_model()
        self.answer = self._answer()

    def _last_model(self) -> RunActivity | None:
        """Return the model call that ended last; None if there is no model call.

        A framework may report an agent's step inside the model call that handed over to this agent. Such a model call
        ends after the agent, although its model answered before the agent began. So a call that requested tools and
        encloses an agent's step is returned only if there is no other. An agent inside a tool call does not count.
        """
        models = [step for step in self.steps if step.role == MODEL_ROLE]
        agents = [step for step in self.steps if step.role == AGENT_ROLE and step.parent is not None]
        others = models
        if models and agents:
            around = self._ids_around(agents)
            others = [m for m in models if m.ref_id not in around or not any(map(is_tool_request, m.finish_reasons))]
        return max(others or models, key=lambda step: (step.end_us, step.order), default=None)

    def _ids_around(self, agents: Iterable[RunActivity]) -> set[str]:
        """Return the ids of the steps that enclose an agent's step (one of `agents`), directly or indirectly.

        For each agent, the search goes outwards. It ends before the first step that was executing a tool call when the
        agent began, because this tool call started the agent.
        """
        by_id = {step.ref_id: step for step in self.steps}
        calls: dict[str | None, list[RunActivity]] = {}
        for call in self.activities:
            if call.kind == CALL:
                calls.setdefault(call.parent, []).append(call)
        # The calls are in order of their start, so the latest end of those that began before an agent shows whether one
        # of them still ran when the agent began.
        ends = {parent: list(accumulate((call.end_us for call in found), max)) for parent, found in calls.items()}

        def was_calling(step: RunActivity, at_us: int) -> bool:
            begun = bisect_right(calls.get(step.ref_id, ()), at_us, key=lambda call: call.at_us)
            return begun > 0 and ends[step.ref_id][begun - 1] > at_us

        around: set[str] = set()
        for agent in agents:
            here = by_id.get(agent.parent or "")
            while here is not None and here.ref_id not in around and not was_calling(here, agent.at_us):
                around.add(here.ref_id)
                here = by_id.get(here.parent or "")
        return around

    @cached_property
    def reported_agents(self) -> Mapping[str, ReportedAgent]:
        """`{name: agent}` of the agents listed by the reporter (the program that sent the run)."""
        return {agent.name: agent for agent in self.fields.agents}

    @cached_property
    def agents(self) -> dict[str, Case]:
        """`{name of the agent: the agent's part of the run}`; a part is a case with the agent's own steps and calls.

        If the reporter (the program that sent the run) lists the agents, the result has these, in the order of the
        list. Otherwise it has the agents with steps or calls, in order of time; it is empty if only one agent acted.
        """
        reported = self.reported_agents
        if not reported and {activity.agent for activity in self.activities} <= {None}:
            return {}
        parts: dict[str, list[RunActivity]] = {name: [] for name in reported}
        for activity in self.activities:
            if activity.agent in parts:
                parts[activity.agent].append(activity)
            elif not reported:
                # Without a list from the reporter, activities without an agent belong to the agent of the run.
                parts.setdefault(activity.agent or self.fields.agent_name, []).append(activity)
        if not reported and len(parts) < 2:
            return {}
        return {name: Case(self._fields_of(name, part), part) for name, part in parts.items()}

    def _fields_of(self, name: str, part: Sequence[RunActivity]) -> RunFields:
        """Return a copy of the run's fields for one agent, so that the agent's part can be judged like a run.

        The copy has the agent's name and answer, and no list of agents. The status becomes `success`, without an error,
        in three cases:

        - The run failed, and the agent is not the main agent of the run.
        - The run failed, and the agent is the main agent, but it has a step with the role `agent`, which reports its
          status.
        - The run is incomplete, and the steps with the role `agent` report that the agent has ended.

        All other fields have the values of the whole run.

        Args:
            name: the name of the agent.
            part: the steps and calls of the agent.
        """
        run = self.fields
        reported = self.reported_agents.get(name)
        own = [activity.status for activity in part if activity.role == AGENT_ROLE]
        is_own = name == run.agent_name and not own
        has_ended = bool(own) and StepStatus.RUNNING not in own
        answer = reported.answer if reported is not None else run.answer if name == run.agent_name else None
        changed: dict[str, Any] = {"agent_name": name, "answer": answer, "agents": ()}
        # A failure belongs to the run's main agent, unless a span reports how this agent ended.
        if (run.status is RunStatus.FAILURE and not is_own) or (run.status is RunStatus.INCOMPLETE and has_ended):
            changed |= {"status": RunStatus.SUCCESS, "error_type": None, "error_message": None}
        return run.model_copy(update=changed)

    @cached_property
    def _agent_of_step(self) -> Mapping[str, str]:
        return {step.ref_id: step.agent or self.fields.agent_name for step in self.steps}

    def caller_of(self, name: str) -> str | None:
        """Return the name of the first agent that called the agent `name`; None if no agent called it.

        Agent A called agent B if a step of A directly encloses a step of B.
        """
        around = (self._agent_of_step.get(step.parent or "") for step in self.agents[name].steps)
        return next((agent for agent in around if agent is not None and agent != name), None)

    def is_failed_by(self, agent: AgentOutcome) -> bool:
        """Return whether `agent` failed, and its failure counts as a failure of the run.

        The failure does not count in two cases:

        - Another agent called the agent. Only the answer of the caller reaches the user.
        - The agent failed only because its model gave an empty answer, the run has an answer, and the reporter (the
          program that sent the run) states no answer of the agent. Such an agent may have another task than to answer.
        """
        reported = self.reported_agents.get(agent.name)
        is_silent = agent.outcome_rule is OutcomeRule.ANSWER_EMPTY and (reported is None or reported.answer is None)
        answers_user = agent.parent is None or agent.relation is not AgentRelation.CALLED
        return agent.outcome.is_failure and answers_user and not (is_silent and self.has_answer)

    @cached_property
    def is_fine(self) -> bool:
        """Whether the run has an answer that does not report a failure."""
        return self.has_answer and self.inability is None

    @cached_property
    def recovery(self) -> RunRecovery:
        """The object that decides for each failed step or tool call whether the run recovered from the failure."""
        return RunRecovery(self.activities)

    @cached_property
    def inability(self) -> str | None:
        """The words of the run's answer that report a failure of the agent; None if there are no such words."""
        return find_inability(self.answer.text) if self.answer is not None else None

    @cached_property
    def _last_good(self) -> dict[str | None, RunActivity]:
        return {activity.agent: activity for activity in self.activities if activity.is_good}

    @property
    def has_errors(self) -> bool:
        """Whether any step or tool call reports an error."""
        return any(activity.has_error for activity in self.activities)

    @property
    def has_answer(self) -> bool:
        """Whether the run has an answer. A notice that the agent reached its limit of steps is no answer."""
        return self.answer is not None and not self.answer.is_stop_notice

    @cached_property
    def repeated_calls(self) -> list[RunActivity]:
        """The last `MIN_REPEATED` tool calls, if all have the same agent, tool, arguments and result.

        Calls with the status `skipped`, and hand-overs, are left out first. The list is empty if the calls differ, if
        there are fewer of them, or if their arguments or results are not known.
        """
        calls = [
            call
            for call in self.activities
            if call.kind == CALL and call.status is not StepStatus.SKIPPED and not call.hands_over
        ]
        last = calls[-MIN_REPEATED:]
        if len(last) < MIN_REPEATED or not last[0].result or last[0].arguments is None:
            return []
        same = all(
            (call.agent, call.name, call.result) == (last[0].agent, last[0].name, last[0].result) for call in last
        )
        return last if same and all(call.arguments == last[0].arguments for call in last) else []

    def failed_steps(self, *roles: str) -> Iterator[tuple[int, RunActivity]]:
        """Yield `(index, step)` of each step with the status `failure`; the index is the position in `steps`.

        If `roles` are given, only steps with one of these roles are yielded.
        """
        for place, step in enumerate(self.steps):
            # An output that begins with "Error:" may be a text that a model wrote.
            if (not roles or step.role in roles) and step.status is StepStatus.FAILURE:
                yield place, step

    def calls_after(self, model: RunActivity) -> list[RunActivity]:
        """Return the tool calls that began after the start of a model call, in order of time.

        If the model call has no duration, calls that began at its start are included.
        """
        # Calls of an earlier trace, which only the input of this model call reports, begin with it: leave them out.
        since_us = min(model.at_us + 1, model.end_us)
        return [call for call in self.activities if call.kind == CALL and call.at_us >= since_us]

    def is_last(self, step: RunActivity) -> bool:
        """Return whether no other step or call of the run began at or after the end of `step`, a step or a call."""
        last = self.activities[-1]
        return last.at_us < step.end_us or last.order <= step.order

    def took_answer(self, step: RunActivity) -> bool:
        """Return whether the last answer of a model went to `step`, so that a failure of `step` may have lost it.

        The result is True in two cases:

        - The run's last model call is directly inside `step`.
        - The run has no model calls and no answer, and `step` is directly inside an agent's step.
        """
        if self.last_model is not None:
            return self.last_model.parent == step.ref_id
        around = next((other for other in self.steps if other.ref_id == step.parent), None)
        return around is not None and around.role == AGENT_ROLE and self.answer is None

    @property
    def last_model_is_silent(self) -> bool:
        """Whether the last model call succeeded, but gave neither an output nor a finish reason.

        A missing output proves nothing if the program does not capture outputs. So one of these must show it, too:

        - There are other model calls, and each has an output and a finish reason.
        - There are other model calls, each with output tokens, but the last call has no output tokens. The run has a
          question, and no other work follows (`_is_followed`).
        - It is the only model call, an agent ran (`has_agent`), and the run has neither tokens nor a cost. In addition,
          the run has a question or no model name, or reports that its list of messages is empty.
        """
        last = self.last_model
        others = [step for step in self.steps if step.role == MODEL_ROLE and step is not last]
        if last is None or last.result is not None or last.finish_reasons or not last.is_good:
            return False
        run = self.fields
        if others:
            was_counted = not last.has_tokens and all(step.has_tokens for step in others)
            is_cut_off = was_counted and filled(run.question) is not None and not self._is_followed(last)
            return is_cut_off or all(step.result and step.finish_reasons for step in others)
        has_no_messages = (run.model_extra or {}).get("has_messages") is False
        is_known = filled(run.question) is not None or run.model is None or has_no_messages
        return self.has_agent and run.cost is None and is_known

    @property
    def silent_model(self) -> RunActivity | None:
        """The last model call, if it ended without an error and with an empty answer; otherwise None.

        The answer is empty in two cases:

        - The output is reported as blank.
        - The output is missing, although the program captures outputs. This is so if the call has a finish reason, the
          question is known, and each other model call (at least one) has an output with texts or arguments.

        The result is None even so if other work follows (`_is_followed`), if a finish reason of the call is not in
        `ENDED`, or if the model call before it gave a text and no tool call followed.
        """
        last = self.last_model
        if last is None or filled(last.result) is not None or not last.is_good or self._is_followed(last):
            return None
        if any(plain_reason(reason) not in ENDED for reason in last.finish_reasons):
            return None
        others = [step for step in self.steps if step.role == MODEL_ROLE and step is not last]
        before = max(others, key=lambda step: (step.end_us, step.order), default=None)
        if before is not None and filled(before.result) is not None and not self.calls_after(before):
            return None
        is_captured = filled(self.fields.question) is not None and all(
            step.result and not _BARE_REQUESTS.fullmatch(step.result) for step in others
        )
        return last if last.result is not None or (others and last.finish_reasons and is_captured) else None

    def _is_followed(self, model: RunActivity) -> bool:
        """Return whether the run did other work after a model call.

        Other work is one of these:

        - A tool call that began after the start of the model call.
        - A step after the model call that hands the conversation over to another agent.
        - A step that has an output, and began after the end of the step that encloses the model call. Such a step may
          be a later node of a graph, and give the result of the run.
        """
        around = next((step for step in self.steps if step.ref_id == model.parent), model)
        since_us = max(around.end_us, model.end_us)
        return bool(self.calls_after(model)) or any(
            step.order > model.order
            and (
                (step.at_us >= model.end_us and step.hands_over)
                or (step.at_us >= since_us and filled(step.result) is not None)
            )
            for step in self.steps
        )

    @property
    def has_agent(self) -> bool:
        """Whether a span reports that an agent ran: the span of a step, or that of the whole run."""
        whole = (self.fields.model_extra or {}).get("span_kind")
        return whole == AGENT_ROLE or any(step.role == AGENT_ROLE for step in self.steps)

    def agent_went_on(self, step: RunActivity) -> bool:
        """Return whether the agent of `step` had a successful step or tool call that began after the end of `step`."""
        last = self._last_good.get(step.agent)
        return last is not None and last.at_us >= step.end_us and last.order > step.order

    def needed_failures(self) -> Iterator[RunActivity]:
        """Yield the failed tool calls whose results the run needed and never got, the last call first.

        A call is left out if the run recovered from its failure. It is also left out if a later call replaces it
        (`RunRecovery.has_substitute`), and the agent gave an answer that reports no failure.
        """
        for place in reversed(self.recovery.unrecovered_calls):
            call = self.recovery.calls[place]
            answered = self.agents.get(call.agent or self.fields.agent_name, self)
            # The result was not needed if a later call replaces it, and the agent gave an answer that reports no
            # failure.
            if not answered.is_fine or not self.recovery.has_substitute(place):
                yield call

    def _answer(self) -> Answer | None:
        text = filled(self.fields.answer)
        if text is not None:
            return Answer(text, "run", self.fields.run_id, "answer")
        step = self.last_model
        if step is None:
            # If steps have no roles, as in runs posted as JSON, the answer is the output of the last step that has one.
            step = next((step for step in reversed(self.steps) if filled(step.result)), None)
        elif any(
            call.kind == CALL and call.agent == step.agent and call.at_us >= step.end_us for call in self.activities
        ):
            # The output is a request of tools, not an answer.
            return None
        if step is None or step.result is None or not step.result.strip():
            return None
        return Answer(step.result, "step", step.ref_id, "output_summary")
