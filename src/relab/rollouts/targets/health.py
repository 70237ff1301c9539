"""The health gate of a rollout: a check of the target's dependencies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from relab.core.json import JsonValue, canonical_json
from relab.rollouts.errors import TargetUnavailableError
from relab.rollouts.plans.subject import HealthSubject
from relab.rollouts.targets.json_client import JsonClient, at_pointer, shown_url, with_environment

_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class HealthCheckResult:
    """The result of a health check.

    Attributes:
        ok: whether the target is healthy, so that it may be measured and changed.
        reason: why the target is not healthy, in one sentence; empty if it is healthy.
        dependencies: `{name of a dependency: whether it is healthy}`.
    """

    ok: bool
    reason: str = ""
    dependencies: dict[str, bool] = field(default_factory=dict)


class HealthGate:
    """Checks the health of a target.

    Args:
        subject: the check that the plan describes; None if the target always counts as healthy.
        environment: the environment variables that the plan's HTTP headers may use.
        timeout_s: time limit of a request.
    """

    def __init__(self, subject: HealthSubject | None, environment: Mapping[str, str], *, timeout_s: float) -> None:
        self._subject = subject
        headers = with_environment(subject.headers, environment) if subject is not None else {}
        self._client = JsonClient(timeout_s, headers)

    def check(self) -> HealthCheckResult:
        """Return the health of the target.

        A target counts as unhealthy, too, if it does not answer, or if its answer lacks a value that the plan checks.
        """
        subject = self._subject
        if subject is None:
            return HealthCheckResult(ok=True)
        try:
            # A service may answer with a status of 503 while it is unhealthy, and say in its body why.
            answer = self._client.request("GET", subject.url)
        except TargetUnavailableError as error:
            return HealthCheckResult(ok=False, reason=error.message)
        try:
            dependencies = _dependencies(answer.document, subject.dependencies)
            found = None if subject.pointer is None else at_pointer(answer.document, subject.pointer)
        except LookupError as error:
            return HealthCheckResult(
                ok=False, reason=f"The answer of {shown_url(subject.url)} has nothing at {error}: {answer.problem()}."
            )
        unhealthy = sorted(name for name, ok in dependencies.items() if not ok)
        if unhealthy:
            return HealthCheckResult(
                False, f"Unhealthy: {', '.join(unhealthy)} (see {shown_url(subject.url)}).", dependencies
            )
        is_expected = subject.pointer is None or canonical_json(found) == canonical_json(subject.expected)
        if not is_expected or not answer.is_success:
            value = "" if subject.pointer is None else f"{_shown(found)} with "
            reason = f"{shown_url(subject.url)} reports {value}status {answer.status}."
            return HealthCheckResult(False, reason, dependencies)
        return HealthCheckResult(True, "", dependencies)


def lab_config_check(base_url: str, headers: Mapping[str, str]) -> HealthSubject:
    """Return a health check that reads `/api/lab/config` below `base_url`, as the testbed's shop serves it.

    `headers` are sent with each request.
    """
    return HealthSubject(url=f"{base_url}/api/lab/config", dependencies="/health", headers=dict(headers))


def _shown(value: JsonValue) -> str:
    """Return how a message names a JSON value: a number, boolean or null itself, any other value as "another value"."""
    # Texts and objects may be confidential.
    return canonical_json(value)[:_SHOWN] if value is None or isinstance(value, bool | int | float) else "another value"


def _dependencies(document: JsonValue, pointer: str | None) -> dict[str, bool]:
    if pointer is None:
        return {}
    found = at_pointer(document, pointer)
    if not isinstance(found, dict):
        raise LookupError(pointer)  # noqa: TRY004 as if the position were missing
    return {name: isinstance(state, dict) and state.get("ok") is True for name, state in found.items()}
