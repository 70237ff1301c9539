"""The execution of one rollout: check, measure, restore, judge, apply."""

from __future__ import annotations

from threading import Event
from typing import Any, Final

from relab.core.clock import Clock
from relab.core.errors import RelabError
from relab.core.logging import get_logger
from relab.flags.models import ServiceFlags
from relab.rollouts.errors import FlagsChangedError, TargetUnhealthyError
from relab.rollouts.execution.canary import run_canary
from relab.rollouts.execution.flag_switch import FlagSwitch
from relab.rollouts.execution.halt import Halt, HaltReason
from relab.rollouts.execution.journal import RolloutJournal
from relab.rollouts.execution.measuring import LiveMeasurement, LoadMeasurement, mix_of, unusable
from relab.rollouts.execution.progress import OnRolloutProgress, RolloutProgress, medians_of
from relab.rollouts.execution.restoring import restore_flags
from relab.rollouts.judging import early_look, effect_so_far, judge, plan_rounds
from relab.rollouts.models import Arm, ArmWindow
from relab.rollouts.plans.schedule import PlannedWindow, arms_of, flags_of, rounds_that_fit, windows_of
from relab.rollouts.record import (
    Application,
    HealthRecord,
    OpenChange,
    PhaseStart,
    RolloutPhase,
    RolloutRecord,
    RolloutStatus,
)
from relab.rollouts.targets.opening import RolloutTarget
from relab.rollouts.targets.protocol import FlagState
from relab.stats.verdicts import Verdict

CANARY_ROUND: Final = 0
LIVE_SHARE_PCT: Final = 50.0
"""The share of arm B while the service's own traffic is measured."""
_log = get_logger(__name__)


class RolloutExecution:
    """Executes one rollout. `run` may be called once.

    Args:
        record: the rollout; windows of complete rounds in it are not measured again.
        target: the target, opened.
        journal: stores what must survive a crash.
        clock: the wall clock.
        stop: ends the rollout early when set; the flags are restored.
        on_progress: is called with the progress.
    """

    def __init__(
        self,
        record: RolloutRecord,
        target: RolloutTarget,
        journal: RolloutJournal,
        clock: Clock,
        *,
        stop: Event,
        on_progress: OnRolloutProgress,
    ) -> None:
        self._record = record
        self._plan = record.plan
        self._target = target
        self._journal = journal
        self._clock = clock
        self._on_progress = on_progress
        self._halt = Halt(stop, budget_s=self._plan.time_budget, still_leased=journal.still_leased)
        self._stop = stop

    @property
    def record(self) -> RolloutRecord:
        """The record as far as the rollout is."""
        return self._record

    def run(self) -> RolloutRecord:
        """Execute the rollout to its end, and return its record, with the flags restored or applied.

        Raises:
            TargetUnhealthyError: the health gate is closed; nothing was changed.
            RelabError: the target cannot be measured or changed. The flags were restored, unless the error is raised
                by the restoration itself; then the journal keeps what must be restored later.
        """
        self._prepare()
        if self._record.is_dry_run:
            self._update(status=RolloutStatus.DONE, finished_at=self._clock.now_us())
            self._journal.save(self._record)
            return self._record
        state = self._target.flags.read()
        measurement: LoadMeasurement | LiveMeasurement
        if self._plan.subject.live:
            measurement = LiveMeasurement(self._plan, self._target, self._clock)
        else:
            measurement = LoadMeasurement(self._plan, mix_of(self._plan.experiment.mix), self._target, self._clock)
            measurement.check()
        change = self._open_change(state)
        self._journal.open_change(change)
        is_applied = False
        try:
            switch = FlagSwitch(self._target.flags, state, within_s=self._plan.timeout)
            stopped_early = self._measure(measurement, switch)
            if self._halt.reason in {HaltReason.STOPPED, HaltReason.LEASE}:
                self._update(status=RolloutStatus.INTERRUPTED, error=_interruption(self._halt.reason))
            else:
                is_applied = self._judge_and_apply(measurement, switch, stopped_early=stopped_early)
        finally:
            if not is_applied:
                self._restore(change)
        if self._record.status is RolloutStatus.RUNNING:
            self._update(status=RolloutStatus.DONE)
        self._update(finished_at=self._clock.now_us())
        self._journal.save(self._record, closes_change=True)
        return self._record

    def _prepare(self) -> None:
        """Check the health, read the flags, and derive the changes of all arms."""
        started_at = self._record.started_at or self._clock.now_us()
        self._update(status=RolloutStatus.RUNNING, started_at=started_at)
        self._enter(RolloutPhase.HEALTH, "Checking the health of the target")
        health = self._target.health.check()
        self._update(health=HealthRecord(ok=health.ok, reason=health.reason, dependencies=health.dependencies))
        if not health.ok:
            raise TargetUnhealthyError(health.reason, remedy="Repair the target, then start the rollout again.")
        self._enter(RolloutPhase.PLAN, "Reading the flags")
        # A rollout that continues after a restart has its snapshot already.
        before = FlagState(self._record.before) if self._record.before is not None else self._target.flags.read()
        planned: dict[Arm, Any] = {}
        if self._plan.subject.flags.kind == "service":
            document = ServiceFlags().updated(before.value)
            planned = {arm: flags_of(self._plan, arm, document) for arm in arms_of(self._plan)}
        changes = self._target.changes_of(before, planned)
        inverse = self._target.flags.inverse(changes[Arm.B], before)
        rounds = min(self._plan.experiment.first_rounds, rounds_that_fit(self._plan))
        self._update(
            before=before.value,
            changes=changes,
            planned_windows=rounds * len(arms_of(self._plan)),
            apply_command=self._target.flags.command(changes[Arm.B]),
            rollback_command=self._target.flags.command(inverse),
        )
        self._journal.save(self._record)

    def _open_change(self, state: FlagState) -> OpenChange:
        changes = self._record.changes
        before = FlagState(self._record.before)
        values = list(changes.values())
        shares = [*(self._plan.canary.steps if self._plan.canary is not None else ())]
        shares += [LIVE_SHARE_PCT] if self._plan.subject.live else []
        values += [self._target.share_of(before, share) for share in shares]
        _log.info(
            "rollout_begins", rollout_id=self._record.rollout_id, target=self._record.target, version=state.version
        )
        return OpenChange(inverse=self._target.flags.inverse(changes[Arm.B], before), values=values)

    def _measure(self, measurement: LoadMeasurement | LiveMeasurement, switch: FlagSwitch) -> bool:
        """Measure all rounds; return whether an early look ended the measurement."""
        arms = arms_of(self._plan)
        kept = [window for window in self._record.windows if not window.problems]
        first = len(kept) // len(arms)
        self._update(windows=tuple(window for window in kept if window.round < first))
        rounds = min(self._plan.experiment.first_rounds, rounds_that_fit(self._plan))
        number = first
        self._enter(RolloutPhase.EXECUTE, "Measuring")
        if isinstance(measurement, LiveMeasurement):
            switch.set(self._target.share_of(FlagState(self._record.before), LIVE_SHARE_PCT))
        while number < rounds and not self._halt.is_set():
            planned = [window for window in windows_of(self._plan, number + 1) if window.round == number]
            if not self._measure_round(measurement, switch, planned):
                return False
            number += 1
            if number == rounds and self._plan.experiment.rounds == "auto":
                wanted = plan_rounds(self._record.windows, self._plan)
                rounds = max(rounds, min(wanted, rounds_that_fit(self._plan)))
                self._update(planned_windows=rounds * len(arms))
            if self._plan.early_stop is not None and number < rounds:
                look = early_look(self._record.windows, self._plan)
                if look is not None and look.should_stop:
                    return True
        return False

    def _measure_round(
        self, measurement: LoadMeasurement | LiveMeasurement, switch: FlagSwitch, planned: list[PlannedWindow]
    ) -> bool:
        """Measure the windows of one round; return False if the measurement cannot go on."""
        try:
            if isinstance(measurement, LiveMeasurement):
                self._require_health()
                found = measurement.measure_round(planned, self._halt)
                if found is None:
                    return False
                switch.check()
                self._add(*found)
                return True
            for window in planned:
                self._require_health()
                switch.set(self._record.changes[window.arm])
                measured = measurement.measure(window, self._halt)
                if measured is None:
                    return False
                switch.check()
                self._add(measured)
        except (TargetUnhealthyError, FlagsChangedError) as error:
            # The measurement is not valid, but it can be judged, and the flags restored.
            done = {window.index for window in self._record.windows}
            missing = [window for window in planned if window.index not in done]
            self._add(*(unusable(window, self._clock.now_us(), error) for window in missing))
            return False
        return True

    def _require_health(self) -> None:
        health = self._target.health.check()
        if not health.ok:
            raise TargetUnhealthyError(f"The target became unhealthy: {health.reason}")

    def _add(self, *windows: ArmWindow) -> None:
        for window in windows:
            self._update(windows=(*self._record.windows, window))
            self._journal.add_window(window)
        self._report("Measuring")

    def _judge_and_apply(
        self, measurement: LoadMeasurement | LiveMeasurement, switch: FlagSwitch, *, stopped_early: bool
    ) -> bool:
        """Judge the windows, and apply a PASS; return whether the new flags are in force."""
        self._enter(RolloutPhase.JUDGE, "Judging")
        judgement = judge(self._record.windows, self._plan, stopped_early=stopped_early)
        self._update(judgement=judgement)
        if judgement.verdict is not Verdict.PASS:
            message = f"{judgement.verdict.value} never applies the change."
            self._update(application=Application(applied=False, message=message))
            return False
        self._enter(RolloutPhase.APPLY, "Applying")
        message = self._target.health.check().reason
        if not message and self._plan.canary is not None:
            message = self._apply_in_steps(measurement, switch)
        elif not message:
            switch.set(self._record.changes[Arm.B])
        is_applied = not message
        self._update(
            application=Application(
                applied=is_applied,
                message=message or "The new flags are in force; they were read back.",
                at=self._clock.now_us(),
                by="rollout",
            )
        )
        return is_applied

    def _apply_in_steps(self, measurement: LoadMeasurement | LiveMeasurement, switch: FlagSwitch) -> str:
        """Apply the change in the steps of the canary; return why it must be rolled back, empty if it is applied."""
        canary = self._plan.canary
        assert canary is not None
        before = FlagState(self._record.before)
        # A step is measured as a window of its own length.
        longer = self._plan.experiment.model_copy(update={"window_sec": canary.step_sec, "warmup_sec": 0.0})
        plan = self._plan.model_copy(update={"experiment": longer})
        halt = Halt(self._stop, budget_s=0, still_leased=self._journal.still_leased)

        def measure() -> tuple[ArmWindow, ...] | None:
            arm_b = PlannedWindow(0, CANARY_ROUND, Arm.B)
            if isinstance(measurement, LiveMeasurement):
                live = LiveMeasurement(plan, self._target, self._clock)
                return live.measure_round([PlannedWindow(1, CANARY_ROUND, Arm.A), arm_b], halt)
            found = LoadMeasurement(plan, measurement.mix, self._target, self._clock).measure(arm_b, halt)
            return None if found is None else (found,)

        def set_share(share_pct: float) -> None:
            self._report(f"Canary at {share_pct:g} %")
            switch.set(self._target.share_of(before, share_pct))

        violation = run_canary(
            canary,
            self._record.windows,
            set_share=set_share,
            measure=measure,
            check_health=lambda: self._target.health.check().reason,
        )
        if violation is None:
            return ""
        return f"The canary was rolled back at {violation.share_pct:g} %: {violation.reason}"

    def _restore(self, change: OpenChange) -> None:
        self._enter(RolloutPhase.RESTORE, "Restoring the flags")
        try:
            found = restore_flags(self._target.flags, change, within_s=self._plan.timeout)
        except RelabError as error:
            self._update(flags_restored=False, error=f"The flags were not restored: {error.message}")
            raise
        self._update(flags_restored=found.restored)
        if not found.restored:
            self._update(error=self._record.error or found.message)

    def _enter(self, phase: RolloutPhase, message: str) -> None:
        begun = PhaseStart(phase=phase, at=self._clock.now_us())
        self._update(phase=phase, phases=(*self._record.phases, begun))
        self._report(message)

    def _report(self, message: str) -> None:
        windows = self._record.windows
        self._on_progress(
            RolloutProgress(
                phase=self._record.phase,
                message=message,
                windows_done=len(windows),
                windows_planned=self._record.planned_windows,
                p95_ms=medians_of(windows),
                effect=effect_so_far(windows, self._plan),
                left_s=self._halt.left_s(),
            )
        )

    def _update(self, **values: Any) -> None:
        self._record = self._record.model_copy(update=values)


def _interruption(reason: HaltReason) -> str:
    if reason is HaltReason.LEASE:
        return "The rollout lost the lease of its target."
    return "The rollout was stopped before its end."
