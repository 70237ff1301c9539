"""Build an experiment file (`experiment.yaml`) in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

import yaml

from relab.experiments.config.file import EXPERIMENT_YAML, check_config
from relab.experiments.config.models import ExperimentConfig
from relab.experiments.config.paths import LAB

NetworkModeName = Literal["none", "full", "allowlist_enforced"]
IntegrationLevelName = Literal["cli_basic", "cli_events", "otel", "sdk_control", "sdk_full"]


class ExperimentBuilder:
    """Builds an experiment file; every method except `build` and `to_yaml` returns the builder.

    All paths are relative to the project's root, the parent of `.lab/`.
    """

    def __init__(self, experiment_id: str, name: str) -> None:
        self._document: dict[str, Any] = {
            "version": "0.3",
            "experiment": {"id": experiment_id, "name": name},
            "dataset": {},
            "design": {},
            "analysis": {},
            "variant_plan": [],
            "runtime": {"harness": {}, "sandbox": {"mode": "local"}, "network": {"mode": "none"}},
        }

    @classmethod
    def create(cls, experiment_id: str, name: str) -> Self:
        """Return a builder for an experiment with this id and name."""
        return cls(experiment_id, name)

    def description(self, text: str) -> Self:
        """Set the description: what is compared, and why."""
        return self._set("experiment", description=text)

    def owner(self, name: str) -> Self:
        """Set the owner of the experiment."""
        return self._set("experiment", owner=name)

    def workload_type(self, name: Literal["agent_harness", "trainer"]) -> Self:
        """Set whether the harness evaluates an agent or trains a model."""
        return self._set("experiment", workload_type=name)

    def dataset_jsonl(
        self,
        path: str,
        *,
        suite_id: str = "default",
        split_id: str = "default",
        limit: int | None = None,
        task_id_field: str | None = None,
    ) -> Self:
        """Set the data set with the tasks.

        Args:
            path: the path of a JSON Lines file with one task per line, relative to the project's root.
            suite_id: the id of the benchmark (suite) that the tasks belong to, as the results name it.
            split_id: the id of the part of the suite, such as `test`, as the results name it.
            limit: the number of tasks to use, from the start of the file; None for all tasks.
            task_id_field: the field with the id of a task: a text, in which `/` becomes `-`, or a whole number. None
                for the field `task_id`, or `id` in a task without it.
        """
        return self._set(
            "dataset", path=path, suite_id=suite_id, split_id=split_id, limit=limit, task_id_field=task_id_field
        )

    def harness_cli(
        self,
        command: Sequence[str],
        *,
        integration_level: IntegrationLevelName = "cli_basic",
        input_path: str | None = None,
        output_path: str | None = None,
    ) -> Self:
        """Set the program (the harness) that is run for every trial, from the project's root.

        Args:
            command: the program and its arguments.
            integration_level: how much the program reports to the runner.
            input_path: the path inside the sandbox from which the program reads its input; None for the default.
            output_path: the path inside the sandbox to which the program writes its output; None for the default.
        """
        given = {
            "command": list(command),
            "integration_level": integration_level,
            "input_path": input_path,
            "output_path": output_path,
        }
        _update(self._document["runtime"]["harness"], given)
        return self

    def environment(self, *, passed: Sequence[str] = (), values: Mapping[str, str] | None = None) -> Self:
        """Set environment variables of the harness.

        `passed` names variables to copy from the runner's environment; `values` is `{name: value}` of further
        variables.
        """
        self._document["runtime"]["harness"]["environment"] = {"pass": list(passed), "set": dict(values or {})}
        return self

    def secrets(self, *names: str) -> Self:
        """Set which of the runner's environment variables the harness gets as secrets.

        Their values are redacted from artifacts.
        """
        self._document["runtime"]["harness"]["secrets"] = list(names)
        return self

    def sanitization_profile(self, name: str) -> Self:
        """Set the sanitization profile: `none`, `hermetic_functional` or `hermetic_functional_v2`.

        The profile names conditions, such as home folder, locale and network, that must be equal for all trials.

        `none` only limits the environment variables. `hermetic_functional` also gives each trial its own home folder,
        and all trials the same locale, time zone and hash seed. With `hermetic_functional_v2`, full network access and
        state from earlier trials are also violations. The experiment's section `validity` says whether a violation is
        rejected or only recorded.
        """
        return self._set("design", sanitization_profile=name)

    def replications(self, count: int) -> Self:
        """Set the number of trials of each task with each variant."""
        return self._set("design", replications=count)

    def random_seed(self, seed: int) -> Self:
        """Set the seed of all shuffling and resampling."""
        return self._set("design", random_seed=seed)

    def shuffle_tasks(self, shuffle: bool = True) -> Self:
        """Set whether the tasks are run in a random order."""
        return self._set("design", shuffle_tasks=shuffle)

    def max_concurrency(self, count: int) -> Self:
        """Set the largest number of concurrent trials."""
        return self._set("design", max_concurrency=count)

    def policies(self, **policies: Any) -> Self:
        """Set the policies `scheduling`, `state`, `retry`, `pruning` and `stopping`, as in the experiment file.

        A policy that is not given gets its default, even if an earlier call has set it.
        """
        return self._set("design", policies=policies)

    def baseline(self, variant_id: str, bindings: Mapping[str, Any] | None = None) -> Self:
        """Set the baseline: the variant that the others are compared with.

        With each task, the harness gets `bindings`: the variant's values by name, such as the model to use.
        """
        self._document["baseline"] = {"variant_id": variant_id, "bindings": dict(bindings or {})}
        return self

    def add_variant(self, variant_id: str, bindings: Mapping[str, Any] | None = None) -> Self:
        """Add a variant to compare with the baseline.

        With each task, the harness gets `bindings`: the variant's values by name, such as the model to use.
        """
        self._document["variant_plan"].append({"variant_id": variant_id, "bindings": dict(bindings or {})})
        return self

    def primary_metrics(self, names: Sequence[str]) -> Self:
        """Set the primary metrics; comparisons of several primary metrics are corrected for multiple testing."""
        return self._set("analysis", primary_metrics=list(names))

    def secondary_metrics(self, names: Sequence[str]) -> Self:
        """Set further metrics to report."""
        return self._set("analysis", secondary_metrics=list(names))

    def network_mode(self, mode: NetworkModeName, allowed_hosts: Sequence[str] = ()) -> Self:
        """Set the network access of trials; with `allowlist_enforced` they may reach only `allowed_hosts`."""
        self._document["runtime"]["network"] = {"mode": mode, "allowed_hosts": list(allowed_hosts)}
        return self

    def sandbox_image(self, image: str) -> Self:
        """Run trials in containers of this image, which must exist: `lab` neither builds nor pulls it."""
        self._document["runtime"]["sandbox"] |= {"mode": "container", "image": image}
        return self

    def sandbox_mode(self, mode: Literal["local", "bwrap", "container"]) -> Self:
        """Set the sandbox that trials run in: none (`local`), bubblewrap, or containers, which need `sandbox_image`."""
        self._document["runtime"]["sandbox"]["mode"] = mode
        return self

    def timeouts(self, **seconds: float) -> Self:
        """Set the time-outs, in seconds, and reset each time-out that is not given to its default.

        `trial_seconds` is the time-out of a whole trial. `tool_seconds` is the time-out of one tool call; only the
        harness can enforce it. `grace_seconds` is the time from SIGTERM until the harness is killed.
        """
        self._document["runtime"]["timeouts"] = dict(seconds)
        return self

    def budgets(self, **most: int) -> Self:
        """Set the budget of a trial, counted from its events: `max_steps`, `max_total_tokens`, `max_tool_calls`."""
        self._document["runtime"]["budgets"] = dict(most)
        return self

    def build(self) -> ExperimentConfig:
        """Validate the experiment and return it.

        Raises:
            ExperimentInvalidError: a field is missing or invalid.
        """
        text = self._dump()
        source = EXPERIMENT_YAML.parse(text, Path(LAB) / "experiment.yaml")
        return check_config(source.value, source)

    def to_yaml(self) -> str:
        """Validate the experiment and return the text of `.lab/experiment.yaml`.

        Raises:
            ExperimentInvalidError: a field is missing or invalid.
        """
        self.build()
        return self._dump()

    def _set(self, section: str, **fields: Any) -> Self:
        _update(self._document[section], fields)
        return self

    def _dump(self) -> str:
        document = json.loads(json.dumps(self._document))
        path = document["dataset"].get("path")
        if path and not path.startswith("/"):
            document["dataset"]["path"] = str(PurePosixPath("..") / path)
        return yaml.safe_dump({name: value for name, value in document.items() if value != {}}, sort_keys=False)


def _update(section: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Set fields of a section of the experiment; a value of None removes the field, so that its default applies."""
    for name, value in fields.items():
        if value is None:
            section.pop(name, None)
        else:
            section[name] = value
