"""Write the files of `lab init` and `lab knobs-init`: an experiment with comments, its schema for editors, and knobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from relab.experiments.config.knobs import DEFAULT_MANIFEST, DEFAULT_OVERRIDES
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.paths import LAB
from relab.experiments.errors import ExperimentInvalidError

EXPERIMENT: Final = f"{LAB}/experiment.yaml"
SCHEMA: Final = f"{LAB}/experiment.schema.json"

_TEMPLATE = """\
# yaml-language-server: $schema=./experiment.schema.json
# An experiment of `lab`. Fill in what is marked REQUIRED, then: lab describe {experiment}
version: "0.3"

experiment:
  id: ""                       # REQUIRED: a short name without "/"
  name: ""                     # REQUIRED
  workload_type: {workload}
  # description: what is compared, and why

dataset:
  path: ""                     # REQUIRED: tasks.jsonl, relative to this file's folder (../data/tasks.jsonl)
  provider: local_jsonl
  suite_id: default
  schema_version: task_jsonl_v1
  split_id: default
  # limit: 50                  # only the first so many tasks

design:
  sanitization_profile: hermetic_functional_v2
  comparison: paired           # paired | unpaired | none
  replications: 1              # repeats of each task with each variant
  random_seed: 42
  shuffle_tasks: false
  max_concurrency: 1
  policies:
    scheduling: paired_interleaved   # paired_interleaved | variant_sequential | randomized
    state: isolate_per_trial         # isolate_per_trial | persist_per_task | accumulate
    retry: {{max_attempts: 1, retry_on: [error, timeout]}}
    # pruning: {{max_consecutive_failures: 20}}   # give a variant up

analysis:
  primary_metrics: [{metric}]  # the family of questions, corrected for their number
  secondary_metrics: [latency_ms, cost_usd]
{metrics}
baseline:
  variant_id: control
  bindings: {{}}                 # what your program gets as `bindings`

variant_plan:
  - variant_id: treatment
    bindings: {{}}

runtime:
  harness:
    command: []                # REQUIRED: your program, from the project's root: [python, -m, my_agent.harness]
    integration_level: cli_basic     # cli_basic | cli_events | otel | sdk_control | sdk_full
    # environment: {{pass: [MY_REGION], set: {{MODE: test}}}}
    # secrets: [OPENAI_API_KEY]      # from the environment; never in artifacts
  sandbox:
{sandbox}
  network:
    mode: none                 # none | allowlist_enforced | full
    # allowed_hosts: [api.openai.com]
  timeouts:
    trial_seconds: 600
  # budgets: {{max_steps: 50, max_total_tokens: 200000, max_tool_calls: 100}}
"""

_LOCAL = """\
    mode: local                # local | bwrap (strict, no image needed) | container
    # image: my-agent:latest   # for `container`; given by you, never built here"""
_CONTAINER = """\
    mode: container
    image: ""                  # REQUIRED: given by you, never built here"""
_TRAINER_METRICS = """
metrics:
  - {id: val_acc, source: output, json_pointer: /metrics/val_acc, direction: maximize, primary: true}
  - {id: train_loss, source: output, json_pointer: /metrics/train_loss, direction: minimize}
"""


def write_experiment(root: Path, *, workload_type: str, container: bool) -> list[Path]:
    """Write the skeleton of an experiment and its JSON Schema; return the paths of the files.

    Args:
        root: the folder of the project.
        workload_type: `agent_harness` or `trainer`.
        container: whether the skeleton runs trials in a container.

    Raises:
        ExperimentInvalidError: the project already has an experiment, or the folder cannot be written.
    """
    is_trainer = workload_type == "trainer"
    text = _TEMPLATE.format(
        experiment=EXPERIMENT,
        workload=workload_type,
        metric="val_acc" if is_trainer else "success",
        metrics=_TRAINER_METRICS if is_trainer else "",
        sandbox=_CONTAINER if container else _LOCAL,
    )
    schema = json.dumps(experiment_schema(), indent=2) + "\n"
    # The schema belongs to this version of lab, so an existing file is overwritten.
    return [_write(root / EXPERIMENT, text), _write(root / SCHEMA, schema, anew=True)]


def write_knobs(root: Path) -> list[Path]:
    """Write a manifest of common knobs (fields that overrides may change) and an empty file of overrides.

    Return the paths of the two files.

    Raises:
        ExperimentInvalidError: a file exists already, or the folder cannot be written.
    """
    manifest = {"schema_version": "knob_manifest_v1", "knobs": _KNOBS}
    overrides = {"schema_version": "experiment_overrides_v1", "manifest_path": DEFAULT_MANIFEST, "values": {}}
    if (root / DEFAULT_OVERRIDES).exists():
        raise _is_there(root / DEFAULT_OVERRIDES)
    return [
        _write(root / DEFAULT_MANIFEST, json.dumps(manifest, indent=2) + "\n"),
        _write(root / DEFAULT_OVERRIDES, json.dumps(overrides, indent=2) + "\n"),
    ]


def experiment_schema() -> dict[str, Any]:
    """Return the JSON Schema of `experiment.yaml`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ExperimentConfig.model_json_schema(by_alias=True),
        "title": "relab experiment 0.3",
    }


_KNOBS: Final[list[dict[str, Any]]] = [
    {
        "id": "design.replications",
        "json_pointer": "/design/replications",
        "type": "integer",
        "minimum": 1,
        "maximum": 100,
        "role": "core",
        "scientific_role": "control",
    },
    {
        "id": "design.max_concurrency",
        "json_pointer": "/design/max_concurrency",
        "type": "integer",
        "minimum": 1,
        "maximum": 64,
        "role": "infra",
        "scientific_role": "invariant",
    },
    {
        "id": "dataset.limit",
        "json_pointer": "/dataset/limit",
        "type": "integer",
        "minimum": 1,
        "role": "benchmark",
        "scientific_role": "control",
    },
    {
        "id": "network.mode",
        "json_pointer": "/runtime/network/mode",
        "type": "string",
        "options": ["none", "allowlist_enforced", "full"],
        "role": "infra",
        "scientific_role": "confound",
    },
]


def _write(path: Path, text: str, *, anew: bool = False) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentInvalidError(f"The folder {path.parent} cannot be created: {error.strerror}.") from error
    try:
        with path.open("w" if anew else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise _is_there(path) from error
    except OSError as error:
        raise ExperimentInvalidError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def _is_there(path: Path) -> ExperimentInvalidError:
    return ExperimentInvalidError(f"{path} exists already.", remedy="Delete it first: `lab clean --init` does.")
