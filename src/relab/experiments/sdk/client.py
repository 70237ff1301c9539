"""Run `lab` commands from Python and get typed answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relab.experiments.sdk.answers import Compared, Described, LabRunnerError, RunReference, RunResponse, Validated

RUNNER_VARIABLE = "AGENTLAB_RUNNER_BIN"


class LabClient:
    """Runs the command `lab` and reads its answers.

    Args:
        runner_bin: the program; None for the one in AGENTLAB_RUNNER_BIN or, if unset, `lab` beside Python or on PATH.
        cwd: the project's root; None for the working directory.
        env: environment variables to add to those of this process.
    """

    def __init__(
        self, runner_bin: str | None = None, cwd: str | Path | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self._bin = runner_bin or os.environ.get(RUNNER_VARIABLE) or _own_lab()
        self._cwd = Path(cwd) if cwd is not None else None
        self._env = dict(env or {})

    def describe(
        self, experiment: str = ".lab/experiment.yaml", *, overrides: str | None = None, gates: Sequence[str] = ()
    ) -> Described:
        """Return the plan of an experiment, with its statistical power for each gate; run nothing.

        Args:
            experiment: the experiment file, relative to the project's root.
            overrides: a JSON file with values that override the experiment file; None for no overrides.
            gates: conditions on the differences from the baseline, such as `success>=-0.02`.

        Raises:
            LabRunnerError: the experiment cannot be run.
        """
        return Described(self._call("describe", experiment, *_repeated("gate", gates), overrides=overrides)["summary"])

    def run(
        self,
        experiment: str = ".lab/experiment.yaml",
        *,
        container: bool = False,
        overrides: str | None = None,
        keep_workspaces: str | None = None,
        result_cache: bool | None = None,
    ) -> RunResponse:
        """Run an experiment with the sandbox and network of its configuration, and wait for its end.

        Args:
            experiment: the experiment file, relative to the project's root.
            container: whether trials must run in a container.
            overrides: a JSON file with values that override the experiment file; None for no overrides.
            keep_workspaces: which workspaces to keep: `all`, `failed` or `none`; None for the default.
            result_cache: whether to use results of equal trials of earlier runs; None for the setting in the file.

        Raises:
            LabRunnerError: the experiment cannot be run.
        """
        options = {"container": container, "overrides": overrides, "keep_workspaces": keep_workspaces}
        return self._run("run", experiment, result_cache, **options)

    def run_dev(
        self,
        experiment: str = ".lab/experiment.yaml",
        *,
        setup: str | None = None,
        overrides: str | None = None,
        result_cache: bool | None = None,
    ) -> RunResponse:
        """Run an experiment with full network access, and wait for its end.

        Args:
            experiment: the experiment file, relative to the project's root.
            setup: a shell command to run once; all trials start from the files that it leaves. None for no command.
            overrides: a JSON file with values that override the experiment file; None for no overrides.
            result_cache: whether to use results of equal trials of earlier runs; None for the setting in the file.

        Raises:
            LabRunnerError: the experiment cannot be run.
        """
        return self._run("run-dev", experiment, result_cache, setup=setup, overrides=overrides)

    def run_experiment(
        self,
        experiment: str = ".lab/experiment.yaml",
        *,
        overrides: str | None = None,
        result_cache: bool | None = None,
    ) -> RunResponse:
        """Run an experiment in strict isolation, without any network, and wait for its end.

        Args:
            experiment: the experiment file, relative to the project's root.
            overrides: a JSON file with values that override the experiment file; None for no overrides.
            result_cache: whether to use results of equal trials of earlier runs; None for the setting in the file.

        Raises:
            LabRunnerError: the experiment cannot be run.
        """
        return self._run("run-experiment", experiment, result_cache, overrides=overrides)

    def continue_run(
        self, run_dir: str, *, retry_errors: bool = False, ceilings: Mapping[str, float] | None = None
    ) -> RunResponse:
        """Continue a run after an interruption, a crash, or the end of its budget.

        Args:
            run_dir: the folder of the run.
            retry_errors: whether trials that ended in an error run again.
            ceilings: new values for fields of `policies.budget`, by name; 0 removes the ceiling.

        Raises:
            LabRunnerError: the run cannot be continued.
        """
        return _run_response(
            self._call("run", **{"continue": run_dir, "retry_errors": retry_errors, **(ceilings or {})})
        )

    def rescore(self, run_dir: str, *, scorer: str, name: str, timeout: float = 60.0, jobs: int = 1) -> dict[str, Any]:
        """Score the finished trials of a run by another scorer, without running them again.

        Args:
            run_dir: the folder or the id of the run.
            scorer: the command line of the scorer.
            name: the name under which the scores are stored.
            timeout: the time in seconds that the scorer may take for one trial.
            jobs: the number of trials that are scored at the same time.

        Returns:
            `outcomes`, by variant; `changed`, the number of trials whose outcome differs from the run's; `failed`, the
                number of trials that the scorer could not score; `folder`, the folder of the scores.

        Raises:
            LabRunnerError: the run cannot be scored.
        """
        return self._call("rescore", run_dir, scorer=scorer, name=name, timeout=timeout, jobs=jobs)

    def pause(
        self,
        run_dir: str,
        *,
        trials: Sequence[str] = (),
        label: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Pause trials of a run at their next safe point, and wait until they have stopped.

        Args:
            run_dir: the folder of the run.
            trials: the ids of running trials; empty to pause the whole run.
            label: a name for the checkpoint at which a trial is paused; None for no name.
            timeout_s: the seconds that a harness has to stop by itself, before it is ended; None for 60.

        Returns:
            The answer of `lab pause`. Each of its `trials` has a `status`: `paused`, `stopped` (paused without an
                acknowledgement by the harness) or `ended` (before it could be paused).

        Raises:
            LabRunnerError: nothing can be paused. It is not raised if a harness had to be ended.
        """
        return self._call("pause", *_repeated("trial", trials), run_dir=run_dir, label=label, timeout=timeout_s)

    def resume(self, run_dir: str, *, trials: Sequence[str] = (), allow_drift: bool = False) -> RunResponse:
        """Resume paused trials of a run from their checkpoints, and wait for their end.

        Args:
            run_dir: the folder of the run.
            trials: the ids of paused trials; empty for all paused trials of the run.
            allow_drift: whether to use the project's changed files if the snapshot from the run's start is missing.

        Raises:
            LabRunnerError: a trial cannot be resumed.
        """
        return _run_response(
            self._call("resume", *_repeated("trial", trials), run_dir=run_dir, allow_drift=allow_drift)
        )

    def replay(self, run_dir: str, trial_id: str, *, strict: bool = False) -> dict[str, Any]:
        """Run a trial of a run again from the run's artifacts, and compare the two results.

        Args:
            run_dir: the folder of the run.
            trial_id: the id of a trial with a result.
            strict: whether to reject a retried or paused trial, and a harness whose integration level is not `sdk_full`.

        Returns:
            The answer of `lab replay`: `identical`, and `differences`, each with `where`, `before` and `after`.

        Raises:
            LabRunnerError: the trial cannot be replayed. It is not raised if the replay's result differs.
        """
        return self._call("replay", run_dir=run_dir, trial_id=trial_id, strict=strict)

    def fork(
        self,
        run_dir: str,
        *,
        at: str,
        from_trial: str | Sequence[str] = (),
        variant: str | None = None,
        bindings: Mapping[str, Any] | None = None,
        strict: bool = False,
        control: bool = False,
        allow_drift: bool = False,
    ) -> RunResponse:
        """Fork trials of a run: run each trial from a checkpoint to its end in a new run, and wait for the new run.

        Args:
            run_dir: the folder of the run.
            at: the checkpoint: `checkpoint:<logical name or path>`, `step:<n>` or `event_seq:<n>`.
            from_trial: the id of a trial with a result, or the ids of several trials of one variant.
            variant: the id of a variant, to fork all its trials that have the checkpoint, instead of `from_trial`.
            bindings: new values for the harness, by dotted name such as `model.temperature`; None to change none.
            strict: whether to reject trials without checkpoints, and a harness with another level than `sdk_full`.
            control: whether to fork each trial a second time without `bindings`, for a comparison.
            allow_drift: whether to accept (and record) checkpoints that were changed after the end of their run.

        Returns:
            The result of the new run; `response["fork"]` says where the forks began.

        Raises:
            LabRunnerError: a trial cannot be forked.
        """
        trials = [from_trial] if isinstance(from_trial, str) else from_trial
        changes = [f"{name}={json.dumps(value)}" for name, value in (bindings or {}).items()]
        repeated = [*_repeated("from-trial", trials), *_repeated("set", changes)]
        options = {"variant": variant, "strict": strict, "control": control, "allow_drift": allow_drift}
        return _run_response(self._call("fork", *repeated, run_dir=run_dir, at=at, **options))

    def verify(self, run: str, *, key: str | None = None) -> dict[str, Any]:
        """Check whether a run or a bundle (published run) was changed after the end of the run, and who signed it.

        Args:
            run: the folder of a run, or the file of a bundle.
            key: the required signing key, as its id or the path of a PEM file; None for any key.

        Returns:
            `verdict`, such as `verified` or `damaged`; `first`, the first damage (`path`, `offset`), None if undamaged.

        Raises:
            LabRunnerError: there is no such run or bundle. It is not raised if the run or bundle is damaged.
        """
        return self._call("verify", run, key=key)

    def publish(
        self,
        run_dir: str,
        *,
        output: str | None = None,
        with_workspaces: bool = False,
        secrets: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Write one zip archive of a run, in which secrets and credentials are masked.

        Args:
            run_dir: the folder of the run.
            output: the file to write; None for `<run id>.zip` in the project's root.
            with_workspaces: whether the archive contains the trials' copies of the project.
            secrets: environment variables whose values are masked, in addition to declared secrets.

        Returns:
            The answer of `lab publish`: `bundle`, the path; `masked`, the number of masked values by kind.

        Raises:
            LabRunnerError: the run cannot be published.
        """
        return self._call(
            "publish", *_repeated("secret", secrets), run_dir=run_dir, output=output, with_workspaces=with_workspaces
        )

    def compare(
        self, run_dir: str, *, baseline: str | None = None, metrics: Sequence[str] = (), gates: Sequence[str] = ()
    ) -> Compared:
        """Judge the variants of the run in the folder `run_dir` against the baseline.

        Args:
            run_dir: the folder of the run.
            baseline: the id of the variant to compare with; None for the configuration's baseline.
            metrics: metrics in which a variant must be better; empty for the primary metrics, unless `gates` are given.
            gates: conditions on the differences from the baseline, such as `success>=-0.02` or `latency_ms<=5%`.

        Raises:
            LabRunnerError: the run or a gate cannot be read. It is not raised for the verdicts FAIL and INVALID.
        """
        repeated = [*_repeated("metric", metrics), *_repeated("gate", gates)]
        answer = self._call("compare", run_dir, *repeated, baseline=baseline)
        return Compared(answer["verdict"], answer)

    def validate_knobs(self, *, manifest: str, overrides: str) -> Validated:
        """Check a file of overrides (values for knobs) against a manifest of knobs (fields that may be overridden).

        Args:
            manifest: the path of the manifest.
            overrides: the path of the file of overrides.

        Returns:
            The answer, with the value of each knob in the file.

        Raises:
            LabRunnerError: a value is not allowed, or a file cannot be read.
        """
        answer = self._call("knobs-validate", manifest=manifest, overrides=overrides)
        return Validated(bool(answer["valid"]), answer["values"])

    def validate_hooks(self, *, manifest: str, events: str) -> Validated:
        """Check a file of events against the manifest of the harness that wrote it.

        Args:
            manifest: the path of the manifest.
            events: the path of the file of events, with one JSON object per line.

        Raises:
            LabRunnerError: a rule is violated; `details` lists the first violations.
        """
        answer = self._call("hooks-validate", manifest=manifest, events=events)
        return Validated(bool(answer["valid"]), {"events": answer["events"], "counts": answer["counts"]})

    def validate_schema(self, *, file: str, schema: str | None = None) -> Validated:
        """Check a JSON file, or each line of a JSON Lines file, against a JSON Schema.

        Args:
            file: the path of the file.
            schema: the schema's name, such as `trial_output_v1`; None for the schema that the field `schema_version` of
                the first document names.

        Raises:
            LabRunnerError: the file does not match the schema; `details` lists the first violations.
        """
        answer = self._call("schema-validate", file=file, schema=schema)
        return Validated(bool(answer["valid"]), {"schema": answer["schema"], "documents": answer["documents"]})

    def _run(self, command: str, experiment: str, result_cache: bool | None, **options: Any) -> RunResponse:
        # False is an option of its own here: it turns off the cache of the experiment file.
        no_cache = ["--no-result-cache"] if result_cache is False else []
        return _run_response(self._call(command, experiment, *no_cache, result_cache=result_cache, **options))

    def _call(self, command: str, *arguments: str, **options: Any) -> dict[str, Any]:
        given = [self._bin, command, *arguments]
        for name, value in options.items():
            flag = f"--{name.replace('_', '-')}"
            if value is True:
                given.append(flag)
            elif value is not None and value is not False:
                given += [flag, str(value)]
        given.append("--json")
        try:
            done = subprocess.run(  # noqa: S603 the caller's own runner
                given, cwd=self._cwd, env={**os.environ, **self._env}, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise LabRunnerError(
                "runner_not_started", str(error), details={}, exit_code=None, stderr="", command=given
            ) from error
        return _answer(done, given)


def _answer(done: subprocess.CompletedProcess[str], command: Sequence[str]) -> dict[str, Any]:
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        message = f"lab ended with {done.returncode} and no JSON: {done.stderr.strip()[-500:]}"
        answer = {"ok": False, "error": {"code": "invalid_response", "message": message, "details": {}}}
    if answer.get("ok") is True:
        return answer
    error = answer.get("error") or {}
    raise LabRunnerError(
        error.get("code", "unknown"),
        error.get("message", ""),
        details=error.get("details"),
        exit_code=done.returncode,
        stderr=done.stderr,
        command=command,
    )


def _run_response(answer: dict[str, Any]) -> RunResponse:
    return RunResponse(RunReference(**answer["run"]), answer["finished"], answer["outcomes"], answer)


def _own_lab() -> str:
    beside = Path(sys.executable).with_name("lab")
    return str(beside) if beside.exists() else shutil.which("lab") or "lab"


def _repeated(option: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (f"--{option}", value)]
