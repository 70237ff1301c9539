"""The configuration `.lab/experiment.yaml`, version 0.3: its fields, defaults and validation rules."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from relab.core.ids import ExternalId
from relab.core.validation import FieldValueError
from relab.experiments.config.artifacts import Artifacts
from relab.experiments.config.model_gateways import MAX_GATEWAYS, ModelGatewayConfig, check_gateways
from relab.experiments.config.policies import OWN_POLICIES, STRICT, ComparisonDesign, Policies, Validity
from relab.experiments.config.result_cache import ResultCacheConfig
from relab.experiments.config.sandbox_section import SandboxConfig
from relab.experiments.config.sanitization import Profile
from relab.experiments.sandbox.egress_rules import EgressRule
from relab.experiments.sandbox.protocol import NetworkMode

VERSION: Final = "0.3"
DEFAULT_TRIAL_SECONDS = 3_600.0
MAX_REPLICATIONS = 100_000

IN_PATHS: Final = ("/out/", "/state/", "/workspace/")
"""Folders inside the sandbox that still exist after the trial.

The harness's input, output, events and control file must be in one of them.
"""


class IntegrationLevel(StrEnum):
    """How much a harness (the program under test) reports to the runner, from `CLI_BASIC` (only a result) upwards."""

    CLI_BASIC = "cli_basic"
    CLI_EVENTS = "cli_events"
    OTEL = "otel"
    SDK_CONTROL = "sdk_control"
    SDK_FULL = "sdk_full"


def _check_inner_path(path: str) -> str:
    # An empty part would make the rest an absolute path on the runner's machine.
    if not path.startswith(IN_PATHS) or not {"", ".", ".."}.isdisjoint(path.split("/")[2:]):
        raise ValueError(f"the path must be a file below one of {', '.join(IN_PATHS)}, not {path[:80]!r}")
    return path


def _check_host(text: str) -> str:
    EgressRule.parse(text)
    return text


InnerPath = Annotated[str, AfterValidator(_check_inner_path)]


class _Section(BaseModel):
    model_config = STRICT


class Identity(_Section):
    """The id, the name and the kind of the experiment; a `trainer` is a program under test that trains a model."""

    id: ExternalId
    name: Annotated[str, Field(min_length=1, max_length=500)]
    workload_type: Literal["agent_harness", "trainer"] = "agent_harness"
    description: str | None = None
    owner: str | None = None
    tags: list[str] = []


class Dataset(_Section):
    """The data set: the first `limit` tasks (None: all) of the JSON Lines file `path`, relative to the experiment file.

    A task's id is the value of the field that `task_id_field` names, with each `/` replaced by `-`. If `task_id_field`
    is None, it is the unchanged value of the field `task_id` or, in a task without it, `id`.
    """

    path: Annotated[str, Field(min_length=1)]
    provider: Literal["local_jsonl"] = "local_jsonl"
    suite_id: ExternalId = "default"
    schema_version: Literal["task_jsonl_v1"] = "task_jsonl_v1"
    split_id: ExternalId = "default"
    limit: Annotated[int, Field(ge=1)] | None = None
    task_id_field: Annotated[str, Field(min_length=1)] | None = None


class Design(_Section):
    """How the trials are planned: conditions, comparison, repeats, order, and how many run at the same time."""

    sanitization_profile: Annotated[Profile, Field(strict=False)] = Profile.HERMETIC_FUNCTIONAL_V2
    comparison: ComparisonDesign = "paired"
    replications: Annotated[int, Field(ge=1, le=MAX_REPLICATIONS)] = 1
    random_seed: int = 0
    shuffle_tasks: bool = False
    max_concurrency: Annotated[int, Field(ge=1, le=10_000)] = 1
    policies: Policies = Policies()

    @model_validator(mode="before")
    @classmethod
    def _own_policies_are_policies(cls, value: Any) -> Any:
        """Move the keys `stopping` and `budget` from `design` into `design.policies`.

        A run's stored configuration has them in `design`: its format is that of AgentLab (an experiment runner whose
        file formats relab keeps), which does not allow them in `policies`.
        """
        if not isinstance(value, dict) or not value.keys() & OWN_POLICIES:
            return value
        policies = value.get("policies", {})
        if not isinstance(policies, dict):
            return value
        policies = {**policies, **{name: value[name] for name in OWN_POLICIES if name in value}}
        return {**{name: value[name] for name in value if name not in OWN_POLICIES}, "policies": policies}

    @model_validator(mode="after")
    def _comparisons_agree(self) -> Design:
        if self.policies.comparison not in {None, self.comparison}:
            raise ValueError(f"comparison {self.comparison!r} and policies.comparison contradict each other")
        return self


class Analysis(_Section):
    """The metrics to compare, and the field of the tasks that defines clusters (tasks that depend on each other).

    If several primary metrics are compared, their confidence intervals are corrected for multiple comparisons.
    """

    primary_metrics: list[str] = ["success"]
    secondary_metrics: list[str] = []
    cluster_field: str | None = None
    """The field of tasks that defines clusters: tasks with equal values depend on each other, such as the source document."""


class MetricConfig(_Section):
    """A metric that the runner computes for each trial.

    `source` is where the values come from; it determines which other fields are used:

    - `output`: `json_pointer` selects a value in the trial's output.
    - `events`: `event_type`, `event_field` and `aggregate` select values of events and combine them.
    - `artifacts`: `artifact_measure` says what is measured, and `artifact_glob` selects the artifacts.
    - `runner`: the runner measures the metric itself.

    `direction` says whether high or low values of the metric are better.
    """

    id: ExternalId
    source: Literal["runner", "output", "events", "artifacts"]
    json_pointer: str | None = None
    event_type: str | None = None
    event_field: str | None = None
    aggregate: Literal["sum", "count", "max", "min", "mean", "last"] | None = None
    artifact_measure: Literal["file_count", "diff_bytes", "diff_lines", "total_bytes"] | None = None
    artifact_glob: str | None = None
    weight: float = 0.0
    direction: Literal["maximize", "minimize"] | None = None
    primary: bool = False

    @model_validator(mode="after")
    def _has_what_its_source_needs(self) -> MetricConfig:
        needed = {"output": "json_pointer", "events": "event_type", "artifacts": "artifact_measure"}.get(self.source)
        if needed and getattr(self, needed) is None:
            raise ValueError(f"a metric from {self.source!r} needs {needed}")
        return self


class Guardrail(_Section):
    """The largest allowed value of a metric; the result tables mark trials above it."""

    metric_id: ExternalId
    max: float


class Variant(_Section):
    """One of the compared variants. `bindings` are the values that the program under test gets."""

    variant_id: ExternalId
    bindings: dict[str, Any] = {}


class HarnessEvents(_Section):
    """The file to which the harness (the program under test) writes its events; `path` is inside the sandbox."""

    path: InnerPath = "/out/harness_events.jsonl"


class ControlPlane(_Section):
    """The control file, in which the runner asks a harness to continue, to write a checkpoint, or to stop.

    `path` is inside the sandbox. The harness gets `mode` in its input; the runner itself does not use `mode`.
    """

    mode: Literal["file", "sdk"] = "file"
    path: InnerPath = "/state/lab_control.json"


class Environment(_Section):
    """Environment variables of the harness (the program under test), besides those that the runner sets.

    `pass` names variables whose values are copied from the runner's own environment. `set` has further variables with
    their values.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)

    passed: Annotated[list[str], Field(alias="pass")] = []
    set: dict[str, str] = {}

    @field_validator("set")
    @classmethod
    def _names_are_names(cls, value: dict[str, str]) -> dict[str, str]:
        wrong = [name for name in value if not name or "=" in name]
        if wrong:
            raise ValueError(f"{wrong[0]!r} cannot be the name of a variable")
        return value


class Harness(_Section):
    """The program under test, which is started once per attempt at a trial, and its files inside the sandbox.

    Attributes:
        integration_level: how much the program reports to the runner.
        control_plane: the control file, in which the runner asks the program to continue, to write a checkpoint, or to
            stop.
        secrets: names of variables of the runner's environment that the program also gets; their values are removed
            from all records.
    """

    mode: Literal["cli"] = "cli"
    command: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    integration_level: Annotated[IntegrationLevel, Field(strict=False)] = IntegrationLevel.CLI_BASIC
    input_path: InnerPath = "/out/trial_input.json"
    output_path: InnerPath = "/out/trial_output.json"
    events: HarnessEvents = HarnessEvents()
    control_plane: ControlPlane = ControlPlane()
    environment: Environment = Environment()
    secrets: list[str] = []

    @model_validator(mode="after")
    def _files_differ(self) -> Harness:
        paths = [self.input_path, self.output_path, self.events.path, self.control_plane.path]
        for index, path in enumerate(paths):
            for other in paths[:index]:
                if path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/"):
                    raise ValueError(f"input, output, events and control need different files; {other!r} is used twice")
        return self


class NetworkConfig(_Section):
    """The network access of trials; with the mode `allowlist_enforced` they may reach only `allowed_hosts`."""

    mode: Annotated[NetworkMode, Field(strict=False)] = NetworkMode.NONE
    allowed_hosts: list[Annotated[str, AfterValidator(_check_host)]] = []

    @model_validator(mode="after")
    def _hosts_belong_to_the_allowlist(self) -> NetworkConfig:
        if self.allowed_hosts and self.mode is NetworkMode.NONE:
            raise ValueError("allowed_hosts is given, but mode is 'none'; set mode to 'allowlist_enforced'")
        return self


class Timeouts(_Section):
    """Time-outs of a trial, in seconds.

    `trial_seconds` limits the whole trial; `tool_seconds` is the time-out of a tool call, which only the harness can
    enforce. A harness that gets SIGTERM has `grace_seconds` to end before it is killed.
    """

    trial_seconds: Annotated[float, Field(gt=0)] | None = DEFAULT_TRIAL_SECONDS
    tool_seconds: Annotated[float, Field(gt=0)] | None = None
    grace_seconds: Annotated[float, Field(ge=0)] = 2.0


class Budgets(_Section):
    """Limits of a trial on the numbers of steps, tokens and tool calls, counted from its events."""

    max_steps: Annotated[int, Field(ge=1)] | None = None
    max_total_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None


class Workspace(_Section):
    """The workspace (a trial's own copy of the project): files that are not copied, and limits of written files."""

    ignore: list[str] = []
    """Patterns as in .gitignore; `.lab` and `.git` are never copied."""
    max_output_mb: Annotated[float, Field(gt=0)] = 64.0
    """Largest size of stdout and of stderr, in MB; the runner ends a trial that writes more."""
    max_written_mb: Annotated[float, Field(gt=0)] = 1_024.0
    """Largest size, in MB, of all that a trial writes in addition to its copy of the project.

    It includes `/tmp` and deleted files that are still open.
    """


class RuntimeConfig(_Section):
    """How a trial is run: harness, sandbox, network, limits, workspace, model gateways and result cache."""

    harness: Harness
    sandbox: SandboxConfig = SandboxConfig()
    network: NetworkConfig = NetworkConfig()
    timeouts: Timeouts = Timeouts()
    budgets: Budgets = Budgets()
    workspace: Workspace = Workspace()
    model_gateways: Annotated[list[ModelGatewayConfig], Field(max_length=MAX_GATEWAYS)] = []
    result_cache: ResultCacheConfig | None = None

    @model_validator(mode="after")
    def _gateways_are_permitted(self) -> RuntimeConfig:
        check_gateways(self.model_gateways, self.network.mode, self.network.allowed_hosts)
        return self


class ExperimentConfig(_Section):
    """A whole experiment; every field that the file does not set has its default value."""

    version: Literal["0.3"]
    experiment: Identity
    dataset: Dataset
    design: Design = Design()
    analysis: Analysis = Analysis()
    metrics: list[MetricConfig] = []
    guardrails: list[Guardrail] = []
    artifacts: Artifacts = Artifacts()
    baseline: Variant
    variant_plan: list[Variant] = []
    runtime: RuntimeConfig
    validity: Validity = Validity()
    ext: dict[str, Any] = {}

    @model_validator(mode="after")
    def _names_differ(self) -> ExperimentConfig:
        variants, metrics = [one.variant_id for one in self.variants], [one.id for one in self.metrics]
        # The variants begin with the baseline, which is not in the plan.
        for names, section, field, before in (
            (variants, "variant_plan", "variant_id", 1),
            (metrics, "metrics", "id", 0),
        ):
            for index, name in enumerate(names):
                if name in names[:index]:
                    raise FieldValueError((section, index - before, field), f"the id {name!r} occurs twice")
        return self

    @model_validator(mode="after")
    def _stopping_fits_the_design(self) -> ExperimentConfig:
        self.design.policies.check_stopping(
            comparison=self.design.comparison,
            shuffles_tasks=self.design.shuffle_tasks,
            has_variants=bool(self.variant_plan),
            has_clusters=self.analysis.cluster_field is not None,
        )
        return self

    @model_validator(mode="after")
    def _cached_trials_are_isolated(self) -> ExperimentConfig:
        if self.runtime.result_cache is not None and self.design.policies.state.carries_state:
            raise ValueError(
                "runtime.result_cache needs policies.state: isolate_per_trial, because a trial that continues from "
                "another one depends on more than its own inputs"
            )
        return self

    @property
    def variants(self) -> list[Variant]:
        """All variants of the experiment, the baseline first."""
        return [self.baseline, *self.variant_plan]

    def resolved(self) -> dict[str, Any]:
        """Return the configuration as a JSON object with all defaults, the content of `resolved_experiment.json`.

        The format is that of AgentLab (an experiment runner whose file formats relab keeps). A field that is None is
        left out if AgentLab's schema does not allow null there. `policies.comparison` gets the value of
        `design.comparison`.
        """
        document = self.model_dump(mode="json", by_alias=True)
        design, runtime = document["design"], document["runtime"]
        if runtime["result_cache"] is None:
            # Such as the digest of a run that an earlier version began: it must stay the same.
            del runtime["result_cache"]
        for section in (
            document["experiment"],
            document["dataset"],
            document["validity"],
            design["policies"]["pruning"],
        ):
            for name in [name for name, value in section.items() if value is None]:
                del section[name]
        policies = design["policies"]
        policies["comparison"] = design["comparison"]
        for name in sorted(OWN_POLICIES):
            # AgentLab's schema closes `policies`; `design` is open.
            if (value := policies.pop(name)) is not None:
                design[name] = value
        return document
