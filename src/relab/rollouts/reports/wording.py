"""Texts that several reports share: numbers, the decision, and what to do next."""

from __future__ import annotations

from relab.core.json import equal_json
from relab.rollouts.models import Arm, Effect, RolloutJudgement
from relab.rollouts.obstacles import pass_obstacles
from relab.rollouts.record import RolloutRecord
from relab.stats.verdicts import Verdict

UNKNOWN = "n/a"


def percent(value: float | None, *, digits: int = 1, signed: bool = True) -> str:
    """Return a percentage as text, such as `-12.3%`; `n/a` if it is unknown.

    `digits` is the number of digits after the point. With `signed`, a positive number gets a plus sign.
    """
    if value is None:
        return UNKNOWN
    shown = f"{value:+.{digits}f}%" if signed else f"{value:.{digits}f}%"
    # A change that rounds to zero has no sign.
    return shown[1:] if signed and float(shown[:-1]) == 0 else shown


def interval(effect: Effect) -> str:
    """Return the interval of an effect, such as `99% interval -18.0% to -6.4%`, or why it has none."""
    if effect.low_pct is None or effect.level is None:
        return "no interval: too few rounds"
    high = "any value" if effect.high_pct is None else percent(effect.high_pct)
    return f"{100 * effect.level:.4g}% interval {percent(effect.low_pct)} to {high}"


def decision(record: RolloutRecord) -> str:
    """Return the verdict of a rollout, such as `PASS`, or `NONE` with a reason, such as `NONE (dry run)`."""
    if record.judgement is not None:
        return record.judgement.verdict.value
    return "NONE (dry run)" if record.is_dry_run else f"NONE ({record.status.value})"


def reason(record: RolloutRecord) -> str:
    """Return the reason for the result of a rollout, in one sentence.

    It is the error of the rollout; without an error, the reason for the verdict; without a verdict, a sentence that
    says so.
    """
    if record.error is not None:
        return record.error
    if record.judgement is not None:
        return record.judgement.reason
    return "Nothing was changed and measured." if record.is_dry_run else "The rollout has not been judged."


def is_applied(record: RolloutRecord) -> bool:
    """Return whether the new flags are in force according to the record of a rollout."""
    return record.application is not None and record.application.applied


def is_decided(record: RolloutRecord) -> bool:
    """Return whether there was an attempt, successful or not, to apply the new flags or to restore the old ones."""
    return record.application is not None and record.application.by is not None


def flags_sentence(record: RolloutRecord) -> str:
    """Return which flags are in force according to the record of a rollout, in one sentence."""
    if is_applied(record):
        return "The new flags are in force."
    if not record.status.is_over:
        return "The rollout is not over, so its flags change."
    if record.flags_restored is None:
        return "The flags were not changed."
    if record.flags_restored:
        return "The flags have their values from before the rollout."
    return "The flags do not have their values from before the rollout."


def next_steps(record: RolloutRecord) -> list[str]:
    """Return what a person should do next, one sentence each."""
    if not record.status.is_over:
        return [f"Wait until the rollout is over: lab rollout show {record.rollout_id}"]
    if is_applied(record):
        return ["Monitor metrics for 24h"]
    if record.flags_restored is False:
        return [
            "Compare the flags with those under ROLLBACK; run its command, unless the change of another client must stay"
        ]
    if record.judgement is None or (record.error is not None and not record.changes):
        if not record.is_dry_run:
            return ["Remove the cause, then run the rollout again"]
        return [f"Change the plan, which can never pass: {reason}" for reason in _obstacles(record)] or [
            "Run without --dry-run"
        ]
    return _after_verdict(record, record.judgement)


def _obstacles(record: RolloutRecord) -> tuple[str, ...]:
    """Return the reasons why a rollout can never pass, each from its plan or its equal arms (sets of flags).

    The reasons concern measured windows. If an experiment decides the rollout instead, the result is empty.
    """
    if record.experiment is not None:
        return ()
    return (*pass_obstacles(record.plan), *_equal_arms(record))


def _equal_arms(record: RolloutRecord) -> tuple[str, ...]:
    """Return one sentence if both arms (sets of flags) of a rollout are equal; else an empty tuple."""
    changes = record.changes
    if Arm.A not in changes or Arm.B not in changes or not equal_json(changes[Arm.A], changes[Arm.B]):
        return ()
    return ("The new flags equal the flags that are in force, so both arms are the same.",)


def _after_verdict(record: RolloutRecord, found: RolloutJudgement) -> list[str]:
    """Return a person's next steps after the verdict `found`, one sentence each.

    The function must be called only for a rollout after which the old flags are in force.
    """
    apply = f"lab rollout apply {record.rollout_id}"
    if found.verdict is Verdict.FAIL:
        return ["Keep the old flags; change the plan before the next run", *_equal_arms(record)]
    if found.verdict is Verdict.INVALID:
        return [*(found.remedies or ["Remove the cause of the problems"]), "Then run the rollout again"]
    if is_decided(record) or record.error is not None:
        return [
            "Find out why the new flags are not in force (see VERDICT)",
            f"Then run the rollout again, or apply them: {apply}",
        ]
    if found.verdict is Verdict.PASS:
        return [f"Apply the flags: {apply}"]
    steps = [f"Review, and apply if you accept the risk: {apply}"]
    needed, measured = found.rounds_needed, max(found.windows.values(), default=0)
    if needed is not None and needed > measured:
        steps.append(f"Or measure {needed} rounds (experiment.rounds: {needed}); this run has {measured}")
    steps += [f"Or change the plan, which can never pass: {reason}" for reason in _obstacles(record)]
    return steps
