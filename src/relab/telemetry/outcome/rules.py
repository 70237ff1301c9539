"""The rules that decide the outcome of a run, in order; the first one that matches decides.

See docs/design/outcome.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from relab.telemetry.models import CALL, RunFields, RunStatus, StepStatus
from relab.telemetry.outcome.activities import AGENT_ROLE, MODEL_ROLE, RunActivity
from relab.telemetry.outcome.case import Case
from relab.telemetry.outcome.phrases import CUT_OFF, FILTERED, STEP_LIMIT, is_tool_request, plain_reason
from relab.telemetry.outcome.quotes import MAX_EVIDENCE, Quote, error_quote, report_of
from relab.telemetry.outcome.reported_errors import filled
from relab.telemetry.outcome_models import AgentOutcome, AgentRelation, OutcomeReport, OutcomeRule, RunOutcome

Rule = Callable[[Case], OutcomeReport | None]


def outcome_of(fields: RunFields, activities: Iterable[RunActivity], *, names_agents: bool = True) -> OutcomeReport:
    """Return the outcome of a run and of each of its agents.

    Args:
        fields: the fields of the run.
        activities: the steps and tool calls of the run, in any order.
        names_agents: whether the fields or the activities may contain names of agents. If false, no agent needs an
            outcome of its own. The activities are then read only if the reported status does not decide the outcome.
    """
    decided = None if names_agents else _by_status(fields)
    return decided if decided is not None else judge(Case(fields, activities))


def judge(case: Case) -> OutcomeReport:
    """Return the outcome of a run and of each of its agents.

    If the run succeeded, but the failure of an agent counts as one of the run (`Case.is_failed_by`), the outcome of the
    run is "completed with errors".
    """
    report = _judge_alone(case)
    if not case.agents:
        return report
    agents = tuple(_agent_outcome(case, name) for name in case.agents)
    failed = next((agent for agent in agents if case.is_failed_by(agent)), None)
    if report.value is RunOutcome.SUCCEEDED and failed is not None:
        return OutcomeReport(
            value=RunOutcome.COMPLETED_WITH_ERRORS,
            rule=failed.outcome_rule,
            evidence=failed.outcome_evidence,
            agents=agents,
        )
    return report.model_copy(update={"agents": agents})


def _judge_alone(case: Case) -> OutcomeReport:
    """Return the outcome of a run as a whole, without outcomes of its agents."""
    # A reported failure, cancellation or running state decides; otherwise the first rule that matches.
    decided = _by_status(case.fields)
    if decided is not None:
        return decided
    if case.fields.status is RunStatus.INCOMPLETE:
        return _judge_incomplete(case)
    rules = _RULES if case.has_errors else _RULES_WITHOUT_ERRORS
    return next((report for rule in rules if (report := rule(case)) is not None), _SUCCEEDED)


def _judge_incomplete(case: Case) -> OutcomeReport:
    """Return the outcome of a run without a reported end.

    If any step or call reports an error, the first rule of `_RULES_OF_INCOMPLETE` that matches decides. Otherwise only
    the rule about the step limit (`_step_limit`) is tried. If no rule matches, the outcome is unknown. If a rule gives
    `completed_with_errors`, but the run has no answer, the outcome is `failed`.
    """
    rules = _RULES_OF_INCOMPLETE if case.has_errors else (_step_limit,)
    report = next((report for rule in rules if (report := rule(case)) is not None), None)
    # A missing step or answer proves nothing, because it may only not have arrived.
    if report is None:
        errors = [error_quote(activity) for activity in case.activities if activity.has_error]
        return report_of(RunOutcome.UNKNOWN, OutcomeRule.INCOMPLETE, errors)
    if report.value is RunOutcome.COMPLETED_WITH_ERRORS and not case.has_answer:
        # Nothing shows that the run completed.
        return report.model_copy(update={"value": RunOutcome.FAILED})
    return report


def _agent_outcome(case: Case, name: str) -> AgentOutcome:
    part = case.agents[name]
    report = _judge_alone(part)
    reported = case.reported_agents.get(name)
    parent = reported.parent if reported is not None else case.caller_of(name)
    return AgentOutcome(
        name=name,
        parent=parent,
        relation=reported.relation if reported is not None else AgentRelation.CALLED if parent is not None else None,
        steps=len(part.steps),
        tool_calls=len(part.activities) - len(part.steps),
        outcome=report.value,
        outcome_rule=report.rule,
        outcome_evidence=report.evidence,
    )


def _by_status(fields: RunFields) -> OutcomeReport | None:
    """Return the outcome of a run by its reported status alone.

    Return None for the statuses `success` and `incomplete`, which are not sufficient to decide.
    """
    status = fields.status
    if status is RunStatus.SUCCESS or status is RunStatus.INCOMPLETE:
        return None
    value, rule = _BY_STATUS[status]
    named = next((name for name in ("error_message", "error_type") if filled(getattr(fields, name))), "status")
    return report_of(value, rule, [("run", fields.run_id, named, str(getattr(fields, named)))])


_BY_STATUS: Final = {
    RunStatus.RUNNING: (RunOutcome.UNKNOWN, OutcomeRule.NOT_FINISHED),
    # A person or a program stopped the run, so it neither reached its goal nor failed.
    RunStatus.CANCELLED: (RunOutcome.UNKNOWN, OutcomeRule.CANCELLED),
    RunStatus.FAILURE: (RunOutcome.FAILED, OutcomeRule.REPORTED_FAILURE),
}


def _agent_failed(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `AGENT_FAILED` or `STEP_LIMIT`; None if the rules do not match.

    A rule matches if the step of an agent failed and the run did not recover from this failure. The rule is
    `STEP_LIMIT` if the step reports that the agent reached its limit of steps, otherwise `AGENT_FAILED`.
    """
    for place, step in reversed(list(case.failed_steps(AGENT_ROLE))):
        if not case.recovery.step_was_recovered(place):
            # If no step or call followed, the exception reached the caller, whatever status the root span has.
            value = RunOutcome.FAILED if case.is_last(step) else RunOutcome.COMPLETED_WITH_ERRORS
            rule = OutcomeRule.STEP_LIMIT if _limit_field(step) else OutcomeRule.AGENT_FAILED
            return report_of(value, rule, [error_quote(step)])
    return None


def _step_limit(case: Case) -> OutcomeReport | None:
    """Return the outcome if the agent was stopped because it had reached its limit of steps; None if it was not."""
    evidence = []
    for place, step in case.failed_steps():
        if _limit_field(step) and not case.recovery.step_was_recovered(place):
            evidence.append(("step", step.ref_id, _limit_field(step), getattr(step, _limit_field(step))))
    run = case.fields
    for name in ("error_message", "error_type"):
        text = getattr(run, name)
        if text and STEP_LIMIT.search(text):
            evidence.append(("run", run.run_id, name, text))
    model, answer = case.last_model, case.answer
    if model is not None:
        evidence += [
            ("step", model.ref_id, "finish_reasons", reason)
            for reason in model.finish_reasons
            if STEP_LIMIT.search(reason)
        ]
    if answer is not None and answer.is_stop_notice:
        evidence.append((answer.kind, answer.ref_id, answer.field, answer.text))
    if not evidence:
        return None
    return report_of(
        RunOutcome.COMPLETED_WITH_ERRORS if case.has_answer else RunOutcome.FAILED, OutcomeRule.STEP_LIMIT, evidence
    )


def _model_failed(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `MODEL_FAILED`; None if the rule does not match.

    It matches if a model call failed, and no later model call, or step with its name, of the same agent succeeded.
    """
    for place, step in reversed(list(case.failed_steps(MODEL_ROLE))):
        if not case.recovery.step_was_recovered(place):
            reached_end = case.is_last(step) and filled(case.fields.answer) is None
            value = RunOutcome.FAILED if reached_end else RunOutcome.COMPLETED_WITH_ERRORS
            return report_of(value, OutcomeRule.MODEL_FAILED, [error_quote(step)])
    return None


def _cancelled(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `CANCELLED`; None if the rule does not match.

    It matches if nothing began after the end of the cancelled step or call that began last, and the run reports no
    answer. The status of the enclosing steps does not matter, because some frameworks report success for them.
    """
    if filled(case.fields.answer) is not None:
        return None
    for activity in reversed(case.activities):
        if activity.status is StepStatus.CANCELLED:
            ended_run = case.is_last(activity)
            return report_of(RunOutcome.UNKNOWN, OutcomeRule.CANCELLED, [error_quote(activity)]) if ended_run else None
    return None


def _no_answer(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `NO_ANSWER`; None if the rule does not match.

    It needs a run with a model call and without a reported answer. The first of these cases that applies decides:

    - The last model call gave neither an output nor a finish reason (`Case.last_model_is_silent`): unknown.
    - The program interrupted a step, for example to ask a person, and nothing began after it: unknown.
    - The agent handed the conversation over: the rule does not match.
    - The last model call requested tools; a successful tool call has arguments, but no result: unknown. A program that
      is cancelled or waits for a person ends in this way.
    - The last model call requested tools, and at least one tool was executed: failed.
    - It requested tools, an agent ran (`Case.has_agent`), and tool calls follow, but none was executed: unknown.
    - It requested tools, an agent ran, nothing began after it, and the user's question is known: unknown.
    """
    model = case.last_model
    if model is None or filled(case.fields.answer) is not None:
        return None
    if case.last_model_is_silent:
        return report_of(
            RunOutcome.UNKNOWN, OutcomeRule.NO_ANSWER, [("step", model.ref_id, "status", model.status.value)]
        )
    paused = next((step for step in reversed(case.steps) if "interrupt" in step.finish_reasons), None)
    if paused is not None and case.is_last(paused):
        return report_of(
            RunOutcome.UNKNOWN, OutcomeRule.NO_ANSWER, [("step", paused.ref_id, "finish_reasons", "interrupt")]
        )
    reason = next(filter(is_tool_request, model.finish_reasons), None)
    if any(activity.hands_over and activity.at_us >= model.at_us for activity in case.activities):
        # The agent that took over the conversation gives the answer.
        return None
    asked = case.calls_after(model)
    called = [call for call in asked if call.status in (StepStatus.SUCCESS, StepStatus.FAILURE)]
    # Without an agent, a request may be the whole task: some clients read a structured answer from it.
    was_stopped = not asked and case.is_last(model) and filled(case.fields.question) is not None
    if reason is None or not (called or (case.has_agent and (asked or was_stopped))):
        return None
    is_open = any(call.is_good and call.arguments is not None and call.result is None for call in called)
    value = RunOutcome.UNKNOWN if is_open or not called else RunOutcome.FAILED
    return report_of(value, OutcomeRule.NO_ANSWER, [("step", model.ref_id, "finish_reasons", reason)])


def _model_ended_by_error(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `NO_ANSWER`; None if the rule does not match.

    It matches if the run reports no answer, nothing began after its last model call, and this call has the finish
    reason `error` and no output. GitHub Copilot CLI reports such a call if its user cancels the model call.
    """
    model = case.last_model
    has_text = model is not None and (model.result or filled(case.fields.answer) is not None)
    if model is None or has_text or "error" not in model.finish_reasons or not case.is_last(model):
        return None
    return report_of(RunOutcome.UNKNOWN, OutcomeRule.NO_ANSWER, [("step", model.ref_id, "finish_reasons", "error")])


def _repeated_calls(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `REPEATED_CALLS`; None if the rule does not match.

    It matches if a run with a model call, or an agent of it, ends with equal tool calls that have equal results (a loop).
    """
    # Without a model call, nothing shows that the run was an agent.
    if case.last_model is None:
        return None
    ends = [part.repeated_calls for part in (case, *case.agents.values())]
    repeated = next((calls for calls in ends if calls), None)
    if repeated is None:
        return None
    quotes = [("tool_call", call.ref_id, "result_summary", call.result or "") for call in repeated]
    value = RunOutcome.COMPLETED_WITH_ERRORS if case.has_answer else RunOutcome.FAILED
    return report_of(value, OutcomeRule.REPEATED_CALLS, quotes)


def _answer_reports_failure(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `ANSWER_REPORTS_FAILURE`; None if the rule does not match.

    It matches if the final answer says that the agent could not do its task, and a tool call shows why: the call
    failed, or a model requested it and it was never made.
    """
    if case.answer is None or case.inability is None:
        return None
    failed = next(case.needed_failures(), None)
    shown = error_quote(failed) if failed is not None else _unmet_request(case)
    if shown is None:
        return None
    quote = (case.answer.kind, case.answer.ref_id, case.answer.field, case.inability)
    return report_of(RunOutcome.COMPLETED_WITH_ERRORS, OutcomeRule.ANSWER_REPORTS_FAILURE, [quote, shown])


def _unmet_request(case: Case) -> Quote | None:
    """Return a quotation of the finish reason of a model call that requested tools in vain; None without such a call.

    The request was in vain if the agent called no tool between this model call and the agent's next model call.
    """
    requests: dict[str | None, tuple[str, str]] = {}
    for activity in case.activities:
        if activity.kind == CALL:
            requests.pop(activity.agent, None)
        elif activity.role == MODEL_ROLE:
            if activity.agent in requests:
                step_id, requested = requests[activity.agent]
                # Frameworks reject arguments before the call begins, and some report this rejection nowhere else.
                return ("step", step_id, "finish_reasons", requested)
            reason = next(filter(is_tool_request, activity.finish_reasons), None)
            if reason is not None:
                requests[activity.agent] = (activity.ref_id, reason)
    return None


def _tool_failed(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `TOOL_FAILED`; None if the rule does not match.

    It matches if a tool call failed, no later attempt succeeded, and the run needed the result.
    """
    failed = list(islice(case.needed_failures(), MAX_EVIDENCE))
    if not failed:
        return None
    return report_of(RunOutcome.COMPLETED_WITH_ERRORS, OutcomeRule.TOOL_FAILED, [error_quote(call) for call in failed])


def _step_failed(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `STEP_FAILED`; None if the rule does not match.

    It matches if a step with a role failed, and no step or call of the same agent succeeded afterwards. Steps of a run
    that was posted as JSON have no role; the status of such a run is reported deliberately, and has precedence.
    """
    for place, step in reversed(list(case.failed_steps())):
        # A root span reports success by default; a run posted as JSON (without roles) reports it deliberately.
        if step.role is not None and not case.recovery.step_was_recovered(place) and not case.agent_went_on(step):
            # What the last model said inside a failed step reached nobody, if the step ended the run without an answer.
            is_lost = filled(case.fields.answer) is None and case.is_last(step) and case.took_answer(step)
            value = RunOutcome.FAILED if is_lost else RunOutcome.COMPLETED_WITH_ERRORS
            return report_of(value, OutcomeRule.STEP_FAILED, [error_quote(step)])
    return None


def _answer_empty(case: Case) -> OutcomeReport | None:
    """Return the outcome by the rule `ANSWER_EMPTY`; None if the rule does not match.

    It matches if the reported answer is blank. If no answer is reported, it matches if the last model answer is empty.
    """
    run, silent = case.fields, case.silent_model
    if run.answer is not None:
        quotes = [] if run.answer.strip() else [("run", run.run_id, "answer", run.answer)]
    else:
        quotes = [("step", silent.ref_id, "status", silent.status.value)] if silent is not None else []
    return report_of(RunOutcome.COMPLETED_WITH_ERRORS, OutcomeRule.ANSWER_EMPTY, quotes) if quotes else None


def _answer_ended_early(case: Case) -> OutcomeReport | None:
    """Return the outcome if a content filter or a token limit ended the last model answer; None otherwise."""
    model = case.last_model
    if model is None:
        return None
    for rule, reasons in ((OutcomeRule.ANSWER_FILTERED, FILTERED), (OutcomeRule.ANSWER_CUT_OFF, CUT_OFF)):
        for reason in model.finish_reasons:
            if plain_reason(reason) in reasons:
                quote = ("step", model.ref_id, "finish_reasons", reason)
                return report_of(RunOutcome.COMPLETED_WITH_ERRORS, rule, [quote])
    return None


_RULES: Final[tuple[Rule, ...]] = (
    _agent_failed,
    _step_limit,
    _model_failed,
    _cancelled,
    _no_answer,
    _model_ended_by_error,
    _answer_reports_failure,
    _tool_failed,
    _repeated_calls,
    _step_failed,
    _answer_empty,
    _answer_ended_early,
)
_RULES_WITHOUT_ERRORS: Final[tuple[Rule, ...]] = (
    _step_limit,
    _cancelled,
    _no_answer,
    _model_ended_by_error,
    _answer_reports_failure,
    _repeated_calls,
    _answer_empty,
    _answer_ended_early,
)
"""The rules that can match if no step and no call reports an error."""
_RULES_OF_INCOMPLETE: Final[tuple[Rule, ...]] = (
    _agent_failed,
    _step_limit,
    _model_failed,
    _cancelled,
    _answer_reports_failure,
    _tool_failed,
    _step_failed,
)
"""The rules for an incomplete run that reports an error. In an incomplete run, a missing step or answer may still arrive."""
_SUCCEEDED: Final = OutcomeReport(value=RunOutcome.SUCCEEDED, rule=OutcomeRule.NO_UNRECOVERED_ERROR)


def _limit_field(step: RunActivity) -> str:
    """Return which field of a step mentions a step limit: `error_message` or `error_class`; empty if neither does."""
    for name in ("error_message", "error_class"):
        text = getattr(step, name)
        if text and STEP_LIMIT.search(text[:2_000]):
            return name
    return ""
