"""The key of a trial in the result cache: it changes with each input that affects the trial, and with nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relab.core.clock import SystemClock
from relab.core.json import digest
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.plan.dataset import Mount, Task, WorkspaceFile
from relab.experiments.plan.trials import Trial
from relab.experiments.trial.context import RunContext
from relab.experiments.trial.result_key import ResultKeys
from relab.experiments.workspace.snapshots import take_snapshot


@dataclass
class Inputs:
    """All inputs of a trial; a test changes single ones."""

    document: dict[str, Any]
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": "/bin", "MODEL": "m"})
    secrets: dict[str, str] = field(default_factory=lambda: {"TOKEN": "planted-1"})
    files: dict[str, str] = field(default_factory=lambda: {"harness": "1", "lib.py": "1"})
    executable: bool = True
    pack: str = "1"
    payload: dict[str, Any] = field(default_factory=lambda: {"task_id": "t", "prompt": "p"})
    task_file: tuple[str, bytes, bool] = ("in.txt", b"1", False)
    mount: str = "data"
    limits: dict[str, float] = field(default_factory=lambda: {"max_steps": 5})
    identity: dict[str, Any] = field(default_factory=lambda: {"exec_digest": "1"})
    image: str | None = "sha256:1"
    executor: str = "local"
    repl_idx: int = 0
    run_id: str = "run_1"
    number: int = 1

    def set(self, path: str, value: Any) -> None:
        """Set a field of the experiment by its dotted path, such as `runtime.network.mode`."""
        *parents, name = path.split(".")
        section = self.document
        for parent in parents:
            section = section.setdefault(parent, {})
        section[name] = value


def inputs() -> Inputs:
    return Inputs(
        {
            "version": "0.3",
            "experiment": {"id": "e", "name": "E"},
            "dataset": {"path": "x"},
            "design": {"sanitization_profile": "hermetic_functional"},
            "baseline": {"variant_id": "v", "bindings": {"temperature": 1, "nested": {"a": [1]}}},
            "runtime": {
                "harness": {"command": ["sh", "harness"], "environment": {"pass": ["MODEL"]}, "secrets": ["TOKEN"]},
                "network": {"mode": "full"},
                "sandbox": {"resources": {"memory_mb": 100}},
            },
        }
    )


def _set(path: str, value: Any) -> Callable[[Inputs], None]:
    return lambda inputs: inputs.set(path, value)


def _put(name: str, value: Any) -> Callable[[Inputs], None]:
    return lambda inputs: setattr(inputs, name, value)


def _update(name: str, **values: Any) -> Callable[[Inputs], None]:
    return lambda inputs: getattr(inputs, name).update(values)


# Each change affects a different input, so any two different sets of changes give different trials.
DECIDING: dict[str, Callable[[Inputs], None]] = {
    "harness file": _update("files", harness="2"),
    "another file": _update("files", **{"lib.py": "2"}),
    "new file": _update("files", **{"new.py": "1"}),
    "file mode": _put("executable", False),
    "command": _set("runtime.harness.command", ["sh", "harness", "--fast"]),
    "level": _set("runtime.harness.integration_level", "cli_events"),
    "output path": _set("runtime.harness.output_path", "/out/other.json"),
    "variable": _set("runtime.harness.environment.set", {"A": "1"}),
    "passed value": _update("environment", MODEL="n"),
    "search path": _update("environment", PATH="/usr/bin"),
    "secret value": _update("secrets", TOKEN="planted-2"),
    "variant": _set("baseline.variant_id", "w"),
    "binding": _set("baseline.bindings.temperature", True),
    "binding in depth": _set("baseline.bindings.nested", {"a": [1, 2]}),
    "new binding": _set("baseline.bindings.other", None),
    "prompt": _update("payload", prompt="q"),
    "task": _update("payload", task_id="u"),
    "task file": _put("task_file", ("in.txt", b"2", True)),
    "pack": _put("pack", "2"),
    "task limits": _update("limits", trial_seconds=9.0),
    "repeat": _put("repl_idx", 1),
    "allowed hosts": _set("runtime.network", {"mode": "allowlist_enforced", "allowed_hosts": ["a.example:443"]}),
    "memory": _set("runtime.sandbox.resources.memory_mb", 200),
    "image": _put("image", "sha256:2"),
    "read-only paths": _set("runtime.sandbox.read_only_paths", ["/opt"]),
    "time-out": _set("runtime.timeouts.trial_seconds", 5.0),
    "budget": _set("runtime.budgets.max_total_tokens", 5),
    "written": _set("runtime.workspace.max_written_mb", 5.0),
    "retries": _set("design.policies", {"retry": {"max_attempts": 2, "retry_on": ["failure"]}}),
    "profile": _set("design.sanitization_profile", "none"),
    "workload": _set("experiment.workload_type", "trainer"),
    "experiment": _set("experiment.id", "f"),
    "gateway": _set("runtime.model_gateways", [{"variable": "URL", "upstream": "https://a.example/v1"}]),
    "identity": _update("identity", exec_digest="2"),
    "executor": _put("executor", "ray"),
}
OTHER: dict[str, Callable[[Inputs], None]] = {
    "run": _put("run_id", "run_2"),
    "position": _put("number", 7),
    "more at once": _set("design.max_concurrency", 4),
    "more repeats": _set("design.replications", 9),
    "seed of the order": _set("design.random_seed", 3),
    "metrics": _set("metrics", [{"id": "m", "source": "output", "json_pointer": "/answer"}]),
    "analysis": _set("analysis.primary_metrics", ["m"]),
    "another variant": _set("variant_plan", [{"variant_id": "more"}]),
    "size of the cache": _set("runtime.result_cache", {"max_mb": 3.0}),
    "budget of the run": _set("design.policies.budget", {"max_trials": 3}),
    "name": _set("experiment.name", "Another"),
}
_folders = itertools.count()


def key_of(base: Path, *changes: Callable[[Inputs], None]) -> str:
    """Apply the changes to a new project's inputs, and return the digest of its key document."""
    made = inputs()
    for change in changes:
        change(made)
    root = base / str(next(_folders))
    for name, text in {**made.files, ".lab/dataset_packs/data/1/x": made.pack}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "harness").chmod(0o755 if made.executable else 0o644)
    context = RunContext(
        config=ExperimentConfig.model_validate(made.document),
        run_id=made.run_id,
        root=root,
        clock=SystemClock(),
        host_environment=made.environment,
        secrets=made.secrets,
        run_dir=root / "run",
        snapshot=take_snapshot(root, root / ".lab/cache"),
        dataset=root,
        harness_identity=made.identity,
    )
    task = Task(
        made.payload["task_id"],
        made.payload,
        boundary=True,
        files=(WorkspaceFile(*made.task_file),),
        mounts=(Mount("data:1", made.mount),),
        limits=made.limits,
    )
    trial = Trial(
        run_id=made.run_id,
        number=made.number,
        variant=context.config.baseline,
        task=task,
        task_index=made.number,
        repl_idx=made.repl_idx,
        chain_id="c",
    )
    document = ResultKeys(context, made.executor, made.image).document(trial)
    return digest(document)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(sorted(DECIDING)), max_size=3), st.sets(st.sampled_from(sorted(DECIDING)), max_size=3))
def test_two_trials_share_a_key_only_if_all_their_inputs_are_equal(
    tmp_path: Path, one: set[str], other: set[str]
) -> None:
    first, second = (key_of(tmp_path, *(DECIDING[name] for name in sorted(names))) for names in (one, other))

    assert (first == second) is (one == other)


def test_each_input_changes_the_key(tmp_path: Path) -> None:
    keys = {name: key_of(tmp_path, change) for name, change in DECIDING.items()}

    assert len({*keys.values(), key_of(tmp_path)}) == len(DECIDING) + 1


@pytest.mark.parametrize("name", OTHER)
def test_irrelevant_input_does_not_change_the_key(tmp_path: Path, name: str) -> None:
    assert key_of(tmp_path, OTHER[name]) == key_of(tmp_path)
