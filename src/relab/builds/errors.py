"""Errors of builds. A build that fails raises no error: the failure is stored in its record."""

from __future__ import annotations

from collections.abc import Sequence

from relab.core.errors import (
    ConfigurationError,
    ConflictError,
    ExtraMissingError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)


class BuildNotFoundError(NotFoundError):
    """No build has this id."""

    code = "build_not_found"

    def __init__(self, build_id: str) -> None:
        super().__init__(f"There is no build {build_id[:200]!r}.", remedy="List them: lab builds list")


class BuildProjectNotFoundError(NotFoundError):
    """No build, decision or suggestion is recorded for a project of this name."""

    code = "build_project_not_found"

    def __init__(self, project: str, known: Sequence[str]) -> None:
        remedy = f"There are: {', '.join(name[:200] for name in known)}." if known else "Record one: lab builds run"
        super().__init__(f"Nothing is recorded for a project {project[:200]!r}.", remedy=remedy)


class HistoryCursorError(InvalidInputError):
    """The cursor in a request is not the `next_before` of a page of the same list (of tests or of failure groups)."""

    code = "history_cursor_invalid"

    def __init__(self, text: str) -> None:
        super().__init__(
            f"before: {text[:80]!r} does not continue this list.", remedy="Use `next_before` of the previous page."
        )


class BuildFileInvalidError(InvalidInputError):
    """The build file is unreadable or invalid; each problem names file, line and field."""

    code = "build_file_invalid"


class BuildConfigurationError(InvalidInputError):
    """A configuration of a build is invalid, or has a value that the project's build file does not allow."""

    code = "build_configuration_invalid"


class ProjectBusyError(ConflictError):
    """Another process builds the same project; only one process may build a project at a time."""

    code = "project_busy"


class BuildSandboxError(UnavailableError):
    """The sandbox that the build file requires cannot be used on this machine."""

    code = "build_sandbox_unavailable"


class BuildFolderError(UnavailableError):
    """A file or folder of a build cannot be written, for example because the disk is full."""

    code = "build_folder_unavailable"


class UnknownBuildActionError(InvalidInputError):
    """The optimizer's catalogue of actions (changes of a build's configuration) has no action with this id."""

    code = "unknown_action"


class UnknownPolicyError(InvalidInputError):
    """The build optimizer has no policy (rule that chooses actions for builds) with this name."""

    code = "unknown_policy"


class PolicyFlagError(ConfigurationError):
    """The feature flag with a project's policy (rule that chooses build actions) has a value that is no policy."""

    code = "policy_flag_invalid"
    is_safe_to_show = True

    def __init__(self, key: str, value: str, problem: InvalidInputError) -> None:
        super().__init__(
            f"The flag {key!r} has the invalid value {value[:80]!r}: {problem.message}",
            remedy=f"{problem.remedy} Change the flag: lab flags set {key} FILE",
        )


class PolicyInUseError(ConflictError):
    """A request asks a project to use a policy (rule that chooses build actions) that the project uses already."""

    code = "policy_in_use"

    def __init__(self, project: str, policy: str) -> None:
        super().__init__(
            f"The project {project[:200]!r} uses the policy {policy!r} already.",
            remedy="Name another policy, or a project: lab builds policies PROJECT",
        )


class DecisionNotFoundError(NotFoundError):
    """No decision of the optimizer has this id."""

    code = "decision_not_found"

    def __init__(self, decision_id: str) -> None:
        super().__init__(f"There is no decision {decision_id[:200]!r}.", remedy="List them: lab builds decisions")


class SuggestionNotFoundError(NotFoundError):
    """No suggestion for a failed build has this id."""

    code = "suggestion_not_found"

    def __init__(self, suggestion_id: str) -> None:
        super().__init__(f"There is no suggestion {suggestion_id[:200]!r}.", remedy="List them: lab builds suggestions")


class DecisionStateError(ConflictError):
    """An outcome was reported for a decision that already has one."""

    code = "decision_state"


class DecisionLogError(ConflictError):
    """A policy cannot be evaluated: too few of the optimizer's logged decisions have an outcome.

    A policy is the rule that chooses actions for builds.
    """

    code = "decision_log_too_short"


class UnmeasuredFaultError(InvalidInputError):
    """The build simulator has no measurements of builds with this fault (cause of failures)."""

    code = "unknown_fault"


class PolicyModelMissingError(ConflictError):
    """The policy `dqn`, a neural network that chooses build actions, was requested, but none has been trained."""

    code = "policy_model_missing"

    def __init__(self) -> None:
        super().__init__(
            "There is no trained model for the policy 'dqn'.",
            remedy="Train one, or choose another policy: lab builds train",
        )


class TrainingNotFoundError(NotFoundError):
    """No training has this id."""

    code = "training_not_found"

    def __init__(self, training_id: str) -> None:
        super().__init__(f"There is no training {training_id[:200]!r}.", remedy="Start one: lab builds train")


class PolicyModelError(UnavailableError):
    """The file of a trained policy (rule that chooses build actions) is damaged, or was written for another version."""

    code = "policy_model_unusable"


class RlExtraMissingError(ExtraMissingError):
    """The policy `dqn`, a neural network that chooses build actions, needs the extra `[rl]`, which is not installed."""

    code = "rl_extra_missing"

    def __init__(self) -> None:
        super().__init__(
            "The policy 'dqn' needs PyTorch and Stable-Baselines3, which are not installed.",
            remedy="Install them with: pip install 'relab[rl]'",
        )
