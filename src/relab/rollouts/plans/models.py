"""The plan of a rollout: the fields of its YAML file, with defaults and rules.

relab accepts the plans of LabOps, an older tool. Fields marked "ours" are additions; all other fields are those of the
LabOps plan (`plan_combo.yaml`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from relab.flags.models import MaxBatchSize, MaxConcurrency, TargetP95, TopkThreshold
from relab.load.models import MAX_RATE_PER_S, Arrivals
from relab.rollouts.models import DecisionPolicy, Thresholds
from relab.rollouts.plans.canary import Canary
from relab.rollouts.plans.section import PlanSection
from relab.rollouts.plans.subject import Subject
from relab.rollouts.plans.urls import BaseUrl

MAX_ROUNDS: Final = 1_000
DEFAULT_EARLY_ALPHA: Final = 0.0015
_DAY_S: Final = 86_400
_SERVICE_FIELDS: Final = frozenset(
    {
        "flow_policy",
        "target_p95",
        "conc_cap",
        "batch_cap",
        "routing_mode",
        "topk_threshold",
        "factorial",
    }
)
"""Fields that describe the flags of a service."""
_LOAD_FIELDS: Final = frozenset({"qps", "order", "mix", "arrivals", "max_in_flight", "request_timeout"})
"""Fields that describe the load."""
_LEAST_DETECTED_PCT: Final = 10.0
"""The improvement that a plan must be able to find is at least this number of percentage points beyond the
threshold."""


class WindowOrder(StrEnum):
    """The order in which the arms (sets of flags) are measured in a round (one measurement of each arm).

    `abab`: the order is the same in each round. `abba`: the order is reversed in every second round, which cancels a
    linear trend. `random`: the order is drawn for each round, with the plan's seed and the rollout's id, so that it
    differs between rollouts.
    """

    ABAB = "abab"
    ABBA = "abba"
    RANDOM = "random"


_Rounds = Annotated[int, Field(ge=1, le=MAX_ROUNDS)] | Literal["auto"]


def _check_rounds(value: Any) -> Any:
    is_number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_ROUNDS
    if not is_number and value != "auto":
        raise ValueError(f"must be `auto` or a whole number from 1 to {MAX_ROUNDS:,}, not {value!r}")
    return value


class EarlyStop(PlanSection):
    """The section `early_stop`: test the data between rounds, and end the measurement as soon as a test decides.

    A round has one measurement of each set of flags.

    In a plan of LabOps, an older tool whose plans relab accepts, `early_stop` is only true or false.

    Attributes:
        alpha: greatest probability, 0..1, that a change without effect passes in any test before the last round. The
            final test, after the last round, is separate: its probability is 0.5 %.
    """

    alpha: Annotated[float, Field(gt=0, le=0.05)] = DEFAULT_EARLY_ALPHA


def _read_early_stop(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if value is not None and not isinstance(value, (dict, EarlyStop)):
        raise ValueError(f"must be true, false or a section with `alpha`, not {value!r}")
    return value


class Measurement(PlanSection):
    """The section `experiment`: the changed flags, the load, and how the arms are measured.

    relab accepts the plans of LabOps, an older tool. Fields and values that its plan (`plan_combo.yaml`) does not have
    are marked "ours". An arm is a set of flags: arm A has the flags from before the rollout, and arm B has the changed
    ones. A window is one measurement of an arm. The judged figure is the P95 latency, or the metric that the plan
    names.

    Attributes:
        qps: requests per second of the load.
        window_sec: measured seconds of each window.
        rounds: number of rounds, each with one window of every arm. With `auto` (ours), the number is between
            `min_rounds` and `max_rounds`; it is computed after the first `min_rounds` rounds from their standard
            deviation.
        min_rounds, max_rounds: ours; the bounds of `auto`.
        detect_delta_p95: ours; the true change of the judged figure, in percent, that `auto` must find with a power of
            80 %. It is negative, such as -20 for a decrease by 20 %, and lies below the threshold of a PASS
            (`pass_delta_p95_max`), here called t. None means the lower of 2 t and t - 10, but at least (t - 100) / 2.
            For example, t = -10 gives -20, t = -3 gives -13, and t = -90 gives -95.
        seed: the seed of the load. Together with the rollout's id, it is also the seed of a random order of windows.
        order: ours; the order of the arms in a round.
        warmup_sec: ours; seconds of load before each window that are not measured. They begin when the flags are in
            force.
        mix: ours; the requests of the load: the name of a built-in mix, or the path of a file.
        arrivals: ours; whether requests are due at even intervals, or as a Poisson process.
        max_in_flight: ours; maximum number of requests in progress. A request that becomes due at this maximum is
            dropped.
        request_timeout: ours; time limit of one request, in seconds.
        flow_policy: flow control of arm B, that is, its limit for requests in progress. `aimd` adapts the limit to the
            P95. `fixed` keeps it at `conc_cap`, `off` sets no limit, and `keep` changes nothing; these three are ours.
        target_p95: the P95 in ms that flow control keeps.
        conc_cap: greatest number of requests in progress.
        batch_cap: greatest number of searches that are answered together.
        routing_mode: routing of searches in arm B. `rules` chooses the index by `topk_threshold`. With `faiss`, the
            index FAISS answers all searches; with `qdrant`, the index Qdrant; `keep` changes nothing. These three
            values are ours.
        topk_threshold: with the routing `rules`, a search for at most this number of results uses FAISS, any other
            search Qdrant.
        factorial: ours; also measure flow control alone (arm C) and routing alone (arm D).
    """

    qps: Annotated[float, Field(gt=0, le=MAX_RATE_PER_S)] = 10.0
    window_sec: Annotated[float, Field(ge=0.1, le=_DAY_S)] = 120.0
    rounds: Annotated[int | Literal["auto"], BeforeValidator(_check_rounds, json_schema_input_type=_Rounds)] = "auto"
    min_rounds: Annotated[int, Field(ge=2, le=MAX_ROUNDS)] = 8
    max_rounds: Annotated[int, Field(ge=2, le=MAX_ROUNDS)] = 32
    detect_delta_p95: Annotated[float, Field(gt=-100, lt=0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    order: Annotated[WindowOrder, Field(strict=False)] = WindowOrder.RANDOM
    warmup_sec: Annotated[float, Field(ge=0, le=3_600)] = 2.0
    mix: Annotated[str, Field(min_length=1, max_length=1_000)] = "browse"
    arrivals: Annotated[Arrivals, Field(strict=False)] = Arrivals.CONSTANT
    max_in_flight: Annotated[int, Field(ge=1, le=50_000)] = 1_000
    request_timeout: Annotated[float, Field(gt=0, le=600)] = 10.0
    flow_policy: Literal["aimd", "fixed", "off", "keep"] = "aimd"
    target_p95: TargetP95 = 1_200.0
    conc_cap: MaxConcurrency = 32
    batch_cap: MaxBatchSize = 32
    routing_mode: Literal["rules", "faiss", "qdrant", "keep"] = "rules"
    topk_threshold: TopkThreshold = 32
    factorial: bool = False

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if self.min_rounds > self.max_rounds:
            raise ValueError(f"min_rounds ({self.min_rounds}) must not exceed max_rounds ({self.max_rounds})")
        if self.factorial and "keep" in {self.flow_policy, self.routing_mode}:
            raise ValueError("factorial needs a change of flow_policy and of routing_mode, so neither can be `keep`")
        return self

    @property
    def first_rounds(self) -> int:
        """The number of rounds that are planned at first: `rounds`, or `min_rounds` if `rounds` is `auto`.

        A round has one measurement of each arm (set of flags).
        """
        return self.min_rounds if self.rounds == "auto" else self.rounds


class ReportFiles(PlanSection):
    """The section `report` of a plan file: where the summary and the history are written.

    Attributes:
        max_lines: greatest number of lines of the summary. Longer summaries are possible, because the section ROLLBACK
            is never cut.
        output_path: path of the summary, relative to the folder of reports. This is the working directory for `lab
            rollout run`, and a folder below `RELAB_HOME/rollouts` for a rollout that a worker runs.
        history_path: path of the history of all rollouts, relative to the same folder.
    """

    max_lines: Annotated[int, Field(ge=30, le=10_000)] = 60
    output_path: Annotated[str, Field(min_length=1)] = "reports/LABOPS_AGENT_SUMMARY.txt"
    history_path: Annotated[str, Field(min_length=1)] = "agents/labops/state/history.jsonl"


class Plan(PlanSection):
    """A rollout as its YAML file describes it.

    relab accepts the plans of LabOps, an older tool. "Ours" marks fields that its plan (`plan_combo.yaml`) does not
    have.

    Attributes:
        base_url: address of the target.
        timeout: time limit in seconds of one request to the target's control endpoints.
        experiment: what is changed and measured.
        thresholds: the limits that decide the verdict.
        policy: ours; the rule that decides the rollout.
        time_budget: seconds after which the measurement ends; 0 for no limit.
        per_combo_cap: time limit, in seconds, of each arm (a set of flags: a combination of flow control and routing).
            It limits the sum of all windows (measurements) and warm-ups of the arm; 0 for no limit.
        early_stop: the rule by which the measurement may end before its last round (one measurement of each arm); None:
            no rule.
        alpha_share: ours; the factor, 0..1, by which the significance level of a PASS is multiplied. A search that runs
            n rollouts gives each of them 1 / n, so that its total risk of a false PASS stays the same.
        canary: ours; the steps in which a change is applied after a PASS; None to apply it at once.
        report: the files that are written.
        subject: ours; the flag, health check and metric of the target. The default fits a service with the endpoints of
            the testbed's shop.
    """

    base_url: BaseUrl = "http://localhost:8011"
    timeout: Annotated[float, Field(gt=0, le=600)] = 30.0
    experiment: Measurement = Measurement()
    thresholds: Thresholds = Thresholds()
    policy: Annotated[DecisionPolicy, Field(strict=False)] = DecisionPolicy.STATISTICAL
    time_budget: Annotated[float, Field(ge=0, le=30 * _DAY_S)] = 0.0
    per_combo_cap: Annotated[float, Field(ge=0, le=30 * _DAY_S)] = 0.0
    early_stop: Annotated[
        EarlyStop | None, BeforeValidator(_read_early_stop, json_schema_input_type=EarlyStop | bool | None)
    ] = None
    alpha_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    canary: Canary | None = None
    report: ReportFiles = ReportFiles()
    subject: Subject = Subject()

    @model_validator(mode="after")
    def _check_detected(self) -> Self:
        if self.detected_pct >= self.thresholds.pass_delta_p95_max:
            raise ValueError("experiment.detect_delta_p95 must lie below thresholds.pass_delta_p95_max")
        return self

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        kind = self.subject.flags.kind
        if self.canary is not None and kind != "product_flag":
            raise ValueError(f"canary needs a flag with shares: subject.flags.kind product_flag, not {kind}")
        changed = {
            name for name, field in Measurement.model_fields.items() if getattr(self.experiment, name) != field.default
        }
        if kind != "service" and changed & _SERVICE_FIELDS:
            names = ", ".join(sorted(changed & _SERVICE_FIELDS))
            raise ValueError(f"experiment: {names}: no effect with subject.flags.kind {kind}")
        if self.subject.live and changed & _LOAD_FIELDS:
            names = ", ".join(sorted(changed & _LOAD_FIELDS))
            raise ValueError(f"experiment: {names}: no effect with subject.live, because no load is sent")
        return self

    @property
    def judged_figure(self) -> str:
        """The name of the judged figure in texts: `metric` if the plan names a metric, else `P95` (the P95 latency)."""
        return "P95" if self.subject.metric is None else "metric"

    @property
    def detected_pct(self) -> float:
        """The true change of the judged figure (P95 latency or metric), in percent, for which rounds are planned.

        With `rounds: auto`, the number of rounds is chosen so that a rollout finds this change with a power of 80 %.
        The value is the plan's `detect_delta_p95`; without that, it is derived from the threshold of a PASS.
        """
        given = self.experiment.detect_delta_p95
        if given is not None:
            return given
        bound = self.thresholds.pass_delta_p95_max
        return max(min(2 * bound, bound - _LEAST_DETECTED_PCT), (bound - 100) / 2)
