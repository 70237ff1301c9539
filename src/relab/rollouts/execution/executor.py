"""The execution of one rollout: check, measure, restore, judge, apply."""

from __future__ import annotations

from threading import Event
from typing import Any, Final

from relab.core.clock import Clock
from relab.core.errors import RelabError, UnavailableError
from relab.core.json import equal_json
from relab.core.logging import get_logger
from relab.rollouts.errors import (
    EndNotStoredError,
    FlagsChangedError,
    FlagsNotAppliedError,
    MetricMissingError,
    TargetUnhealthyError,
    WorkerStoppingError,
)
from relab.rollouts.execution.canary import run_canary
from relab.rollouts.execution.flag_switch import FlagSwitch
from relab.rollouts.execution.halt import Halt, HaltReason
from relab.rollouts.execution.journal import RolloutJournal, require_own_change
from relab.rollouts.execution.measuring import (
    LiveMeasurement,
    LoadMeasurement,
    measurement_of,
    require_figures,
    unmeasured,
)
from relab.rollouts.execution.progress import OnRolloutProgress, RolloutProgress, medians_of
from relab.rollouts.execution.restoring import restore_flags
from relab.rollouts.judging import early_look, effect_so_far, judge, rounds_in_all
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
from relab.rollouts.targets.protocol import FlagState, read_agreed
from relab.stats.verdicts import Verdict

CANARY_ROUND: Final = 0
LIVE_SHARE_PCT: Final = 50.0
"""The share of arm B while the service's own traffic is measured."""
_log = get_logger(__name__)


class RolloutExecution:
    """Executes one rollout. `run` may be called once.

    Args:
        record: the rollout. A round has one measurement of each set of flags; complete rounds in the record are not
            repeated.
        target: the opened target.
        journal: stores the state that must survive a crash.
        clock: the wall clock.
        stop: ends the rollout early when it is set; the flags are restored.
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
        """The current record of the rollout."""
        return self._record

    def run(self) -> RolloutRecord:
        """Execute the rollout, and return its record. At the end, the new flags are in force only after a PASS.

        Raises:
            TargetUnhealthyError: the target is unhealthy; nothing was changed.
            FlagsChangedError: another client has changed the flags, before or during the rollout; its change stays.
            TargetLeaseLostError: another process has taken over the target; the caller must not store anything.
            WorkerStoppingError: the worker stops. The flags were restored, and another worker can continue the rollout.
            EndNotStoredError: the new flags are in force, but this could not be stored.
            RelabError: the target cannot be measured or changed. The flags were restored, unless their restoration
                failed.
        """
        self._prepare()
        measurement = measurement_of(self._plan, self._target, self._clock)
        # After an experiment, only a canary measures.
        if self._record.experiment is None or self._plan.canary is not None:
            measurement.check()
        if self._record.is_dry_run or self._is_refused():
            self._update(status=RolloutStatus.DONE, finished_at=self._clock.now_us())
            self._journal.save(self._record)
            return self._record
        state = self._read_unchanged()
        change = self._open_change(state)
        self._journal.open_change(change)
        is_applied = False
        try:
            switch = FlagSwitch(self._target.flags, state, within_s=self._plan.timeout, retries=self._target.retries)
            stopped_early = self._record.experiment is None and self._measure(measurement, switch)
            if not self._is_interrupted():
                is_applied = self._judge_and_apply(measurement, switch, stopped_early=stopped_early)
        except FlagsNotAppliedError as error:
            # The target may have adapted the values; this rollout must undo them, because no other client made them.
            change = change.model_copy(update={"values": [*change.values, *error.values]})
            raise
        finally:
            if not is_applied:
                self._restore(change)
        if self._record.status is RolloutStatus.RUNNING:
            self._update(status=RolloutStatus.DONE)
        self._update(finished_at=self._clock.now_us())
        if is_applied:
            self._store_applied()
        else:
            self._journal.save(self._record)
        return self._record

    def _prepare(self) -> None:
        """Check the health of the target, read its flags, and compute the change to each arm (set of flags)."""
        self._update(status=RolloutStatus.RUNNING, started_at=self._record.started_at or self._clock.now_us())
        self._enter(RolloutPhase.HEALTH, "Checking the health of the target")
        health = self._target.health.check()
        self._update(health=HealthRecord(ok=health.ok, reason=health.reason, dependencies=health.dependencies))
        if not health.ok:
            raise TargetUnhealthyError(health.reason, remedy="Repair the target, then start the rollout again.")
        self._enter(RolloutPhase.PLAN, "Reading the flags")
        # A rollout that continues after a restart has its snapshot already.
        before = FlagState(self._record.before) if self._record.before is not None else read_agreed(self._target.flags)
        planned: dict[Arm, Any] = {}
        if self._plan.subject.flags.kind == "service":
            document: Any = before.value
            planned = {arm: flags_of(self._plan, arm, document) for arm in arms_of(self._plan)}
        changes = self._target.changes_of(before, planned)
        inverse = self._target.flags.inverse(changes[Arm.B], before)
        is_measured = self._record.experiment is None
        rounds = min(self._plan.experiment.first_rounds, rounds_that_fit(self._plan)) if is_measured else 0
        self._update(
            before=before.value,
            changes=changes,
            planned_windows=rounds * len(arms_of(self._plan)),
            flags_restored=None,
            apply_command=self._target.flags.command(changes[Arm.B]),
            rollback_command=self._target.flags.command(inverse),
        )
        self._journal.save(self._record)

    def _is_refused(self) -> bool:
        """Return whether an experiment decides this rollout and its verdict is not PASS, so that nothing is applied."""
        found = self._record.judgement
        if self._record.experiment is None or found is None or found.verdict is Verdict.PASS:
            return False
        self._enter(RolloutPhase.JUDGE, "Judging")
        message = f"{found.verdict.value} never applies the change."
        self._update(application=Application(applied=False, message=message))
        return True

    def _read_unchanged(self) -> FlagState:
        """Read and return the flags of the target, which must be the flags from before the rollout.

        Raises:
            FlagsChangedError: another client has changed the flags.
            FlagsNotAppliedError: parts of the target report different flags.
        """
        state = read_agreed(self._target.flags)
        if not equal_json(state.value, self._record.before):
            raise FlagsChangedError(
                f"Another client changed the flags of {self._target.flags.name} since this rollout read them.",
                remedy="That change stays. Start a new rollout from these flags.",
            )
        return state

    def _is_interrupted(self) -> bool:
        """Return whether a person, a signal or a lost lease ended the rollout; if so, set the status `interrupted`.

        Raises:
            WorkerStoppingError: the worker stops; the status stays, because another worker continues the rollout.
        """
        reason = self._halt.reason
        if reason is None or reason is HaltReason.BUDGET:
            return False
        if reason is HaltReason.WORKER:
            raise WorkerStoppingError(reason.sentence)
        self._update(status=RolloutStatus.INTERRUPTED, error=reason.sentence, finished_at=self._clock.now_us())
        return True

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
        """Measure the remaining rounds (each set of flags once); return True only if an early look (interim test) ended them."""
        arms = arms_of(self._plan)
        kept = [window for window in self._record.windows if not window.problems]
        number = len(kept) // len(arms)
        self._update(windows=tuple(window for window in kept if window.round < number))
        self._enter(RolloutPhase.EXECUTE, "Measuring")
        if isinstance(measurement, LiveMeasurement):
            switch.set(self._target.share_of(FlagState(self._record.before), LIVE_SHARE_PCT))
        # Tested before each round, not after it: a continued rollout then makes the same tests as an uninterrupted one.
        while number < (rounds := rounds_in_all(self._record.windows, self._plan)):
            self._update(planned_windows=rounds * len(arms))
            look = early_look(self._record.windows, self._plan)
            if look is not None and look.should_stop:
                return True
            of_rollout = windows_of(self._plan, number + 1, self._record.rollout_id)
            planned = [window for window in of_rollout if window.round == number]
            if self._halt.is_set() or not self._measure_round(measurement, switch, planned):
                return False
            number += 1
        return False

    def _measure_round(
        self, measurement: LoadMeasurement | LiveMeasurement, switch: FlagSwitch, planned: list[PlannedWindow]
    ) -> bool:
        """Measure each arm (set of flags) of one round; return whether the next round can be measured."""
        try:
            if isinstance(measurement, LiveMeasurement):
                self._require_health()
                found = measurement.measure_round(planned, self._halt)
                if found is None:
                    return False
                switch.check()
                self._add(*found)
                require_figures(*found)
                return True
            for window in planned:
                self._require_health()
                switch.set(self._record.changes[window.arm])
                measured = measurement.measure(window, self._halt)
                if measured is None:
                    return False
                switch.check()
                self._add(measured)
                require_figures(measured)
        except (TargetUnhealthyError, FlagsChangedError, MetricMissingError) as error:
            # The measurement is not valid, but it can be judged, and the flags restored.
            self._add(*unmeasured(planned, self._record.windows, self._clock.now_us(), error))
            return False
        return True

    def _require_health(self) -> None:
        health = self._target.health.check()
        if not health.ok:
            raise TargetUnhealthyError(f"The target became unhealthy: {health.reason}", remedy="Repair the target.")

    def _add(self, *windows: ArmWindow) -> None:
        for window in windows:
            self._update(windows=(*self._record.windows, window))
            self._journal.add_window(window)
        self._report("Measuring")

    def _judge_and_apply(
        self, measurement: LoadMeasurement | LiveMeasurement, switch: FlagSwitch, *, stopped_early: bool
    ) -> bool:
        """Judge the measurements, and apply the change after a PASS; return whether the new flags are in force."""
        self._enter(RolloutPhase.JUDGE, "Judging")
        judgement = self._record.judgement
        if self._record.experiment is None or judgement is None:
            judgement = judge(
                self._record.windows, self._plan, stopped_early=stopped_early, warnings=self._target.retries.sentences()
            )
            self._update(judgement=judgement)
        if judgement.verdict is not Verdict.PASS:
            message = f"{judgement.verdict.value} never applies the change."
            self._update(application=Application(applied=False, message=message))
            return False
        self._enter(RolloutPhase.APPLY, "Applying")
        message = self._target.health.check().reason
        if not message and self._plan.canary is not None and not self._is_interrupted():
            message = self._apply_in_steps(measurement, switch)
        if not message and not self._is_interrupted():
            # After a canary, this changes nothing: all traffic gets arm B, unless another client changed the flags.
            switch.set(self._record.changes[Arm.B])
        # Checked last, because a person may have stopped the rollout during any of the steps above.
        if self._is_interrupted():
            message = message or f"Not applied: {self._record.error}"
        is_applied = not message
        self._update(
            application=Application(
                applied=is_applied,
                message=message or "Applied by the rollout; read back.",
                at=self._clock.now_us(),
                by="rollout",
            )
        )
        return is_applied

    def _apply_in_steps(self, measurement: LoadMeasurement | LiveMeasurement, switch: FlagSwitch) -> str:
        """Apply the change in the steps of the canary; return why it must be rolled back, or "" if it is in force."""
        canary = self._plan.canary
        assert canary is not None
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
            switch.set(self._target.share_of(FlagState(self._record.before), share_pct))

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
        """Restore the flags, store the result in the record, and report it as progress."""
        require_own_change(self._journal, self._target.flags.name)
        self._begin(RolloutPhase.RESTORE)
        try:
            found = restore_flags(self._target.flags, change, within_s=self._plan.timeout)
        except RelabError as error:
            self._update(flags_restored=False, error=f"The flags were not restored: {error.message}")
            raise
        self._update(flags_restored=found.restored)
        if not found.restored:
            self._update(error=self._record.error or found.message)
        self._journal.save(self._record, closes_change=True)
        self._report(found.message)

    def _store_applied(self) -> None:
        require_own_change(self._journal, self._target.flags.name)
        try:
            self._journal.save(self._record, closes_change=True)
        except UnavailableError as error:
            raise EndNotStoredError(
                f"The new flags of {self._target.flags.name} are in force, but that could not be stored: {error.message}",
                remedy="The next `lab rollout` command restores the earlier flags.",
            ) from error

    def _enter(self, phase: RolloutPhase, message: str) -> None:
        self._begin(phase)
        self._journal.begin_phase(self._record)
        self._report(message)

    def _begin(self, phase: RolloutPhase) -> None:
        self._update(phase=phase, phases=(*self._record.phases, PhaseStart(phase=phase, at=self._clock.now_us())))

    def _report(self, message: str) -> None:
        self._on_progress(
            RolloutProgress(
                phase=self._record.phase,
                message=message,
                windows_done=len(self._record.windows),
                windows_planned=self._record.planned_windows,
                figure=self._plan.judged_figure,
                medians=medians_of(self._record.windows),
                effect=effect_so_far(self._record.windows, self._plan),
                left_s=self._halt.left_s(),
            )
        )

    def _update(self, **values: Any) -> None:
        self._record = self._record.model_copy(update=values)
