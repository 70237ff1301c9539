"""Read and change the `{control, routing}` flags of a service such as the testbed's shop."""

from __future__ import annotations

from collections.abc import Mapping

from relab.core.json import JsonValue
from relab.rollouts.errors import (
    ChangesForbiddenError,
    FlagsChangedError,
    FlagsRejectedError,
    RequestFailedError,
    TargetUnavailableError,
)
from relab.rollouts.plans.subject import ServiceFlagsSubject
from relab.rollouts.targets.identity import flag_identity
from relab.rollouts.targets.json_client import JsonClient, curl, with_environment
from relab.rollouts.targets.protocol import FlagState, check_size
from relab.rollouts.targets.repeated_reads import RepeatedReader
from relab.rollouts.targets.retries import RetryLog

_SECTIONS = ("control", "routing")


class ServiceFlagsTarget:
    """The flags of a service, a JSON document with sections. A change contains only the fields to change.

    Args:
        base_url: the URL of the service, without a slash at the end.
        subject: the paths of the flags' endpoints, and the headers to send.
        environment: the environment variables that the plan's HTTP headers may use.
        timeout_s: time limit of a request.
        retries: the log in which each repeated request is counted; None: repetitions are not counted.
    """

    def __init__(
        self,
        base_url: str,
        subject: ServiceFlagsSubject,
        environment: Mapping[str, str],
        *,
        timeout_s: float,
        retries: RetryLog | None = None,
    ) -> None:
        self._read_url = base_url + subject.read_path
        self._write_url = base_url + subject.write_path
        self._subject = subject
        self._client = JsonClient(timeout_s, with_environment(subject.headers, environment), retries)
        self._reader = RepeatedReader(self._read_at_once, subject.reads)

    @property
    def name(self) -> str:
        """A name that identifies the flags: the normalized URL at which they are changed."""
        return flag_identity(self._write_url)

    def read(self) -> FlagState:
        """Return the flags.

        The answer of the service may list the version of each worker in the field `applied`. Then one request is
        enough: `is_applied` is True if all workers have the current version. Without this field, the flags are read by
        several requests. If their answers differ, the result has all different values, and `is_applied` is False.
        """
        document = self._document(self._client.get(self._read_url).document)
        return _state_of(document) if _lists_workers(document) else self._reader.read()

    def _read_at_once(self, times: int) -> list[FlagState]:
        return [_state_of(self._document(found.document)) for found in self._client.get_all(self._read_url, times)]

    def _document(self, answer: JsonValue) -> dict[str, JsonValue]:
        """Return the answer to a read as an object with `control` and `routing`.

        Raises:
            TargetUnavailableError: the answer does not have this form.
            SubjectError: the answer is too large.
        """
        if not isinstance(answer, dict) or not all(isinstance(answer.get(name), dict) for name in _SECTIONS):
            raise TargetUnavailableError(
                f"{self._read_url} does not return flags with `control` and `routing`.",
                remedy="Check `base_url`, or describe the service's flags in `subject.flags`.",
            )
        check_size(answer, self._read_url)
        return answer

    def send(self, wanted: JsonValue, expected: str | None) -> None:
        """Set the fields in `wanted`; leave all other fields of the flags unchanged.

        Args:
            wanted: the fields to set, with their new values.
            expected: the version that the flags must still have; None accepts any version.

        Raises:
            FlagsChangedError: the flags have another version than `expected`.
            FlagsRejectedError: the service rejects the values.
            ChangesForbiddenError: the service forbids the change, or redirects the request.
            TargetUnavailableError: the service does not answer, or reports that it is unavailable.
        """
        headers = {} if expected is None else {"If-Match": f'"{expected}"'}
        answer = self._client.request("POST", self._write_url, wanted, headers=headers)
        check_change(self._write_url, answer.status, answer.problem())

    def holds(self, state: FlagState, wanted: JsonValue) -> bool:
        """Return whether the fields in `wanted` have the wanted values in `state`, in all processes of the service.

        Fields that `wanted` does not contain are not compared.
        """
        return all(_holds(value, wanted) for value in state.values)

    def inverse(self, wanted: JsonValue, before: FlagState) -> JsonValue:
        """Return the change that undoes the change `wanted`: the same fields with their values in `before`.

        Fields that `before` does not contain are left out, so they are not undone.
        """
        return _restricted(before.value, wanted)

    def command(self, wanted: JsonValue) -> str:
        """Return a curl command that sets the fields of the service's flags to the values in `wanted`."""
        return curl("POST", self._write_url, wanted, self._subject.headers)


def _lists_workers(document: Mapping[str, JsonValue]) -> bool:
    return isinstance(document.get("applied"), dict)


def _state_of(document: Mapping[str, JsonValue]) -> FlagState:
    version, workers = document.get("version"), document.get("applied")
    return FlagState(
        {name: document[name] for name in _SECTIONS},
        version=str(version) if isinstance(version, int) else None,
        is_applied=not isinstance(workers, dict) or all(seen == version for seen in workers.values()),
    )


def check_change(url: str, status: int, problem: str) -> None:
    """Raise an error if the service did not accept a change of flags (any HTTP status but 2xx).

    Args:
        url: where the change was sent.
        status: the HTTP status of the response.
        problem: the status and the message of the response, for the error.

    Raises:
        FlagsChangedError: 409 or 412.
        FlagsRejectedError: 400 or 422.
        ChangesForbiddenError: another 4xx, or a redirect.
        RequestFailedError: 5xx, 429 or 408.
    """
    if 200 <= status < 300:
        return
    if status in {409, 412}:
        raise FlagsChangedError(
            f"Another client changed the flags: {url} rejects the change, {problem}.",
            remedy="Repeat the rollout while nothing else changes the flags.",
        )
    if status >= 500 or status in {408, 429}:
        raise RequestFailedError(f"{url} does not accept the change, {problem}.")
    kind = FlagsRejectedError if status in {400, 422} else ChangesForbiddenError
    raise kind(f"{url} rejects the change, {problem}.", remedy="The flags are unchanged; check the plan.")


def _holds(found: JsonValue, wanted: JsonValue) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            name in found and _holds(found[name], value) for name, value in wanted.items()
        )
    if isinstance(found, bool) != isinstance(wanted, bool):
        return False
    return found == wanted


def _restricted(before: JsonValue, wanted: JsonValue) -> JsonValue:
    if isinstance(wanted, dict) and isinstance(before, dict):
        return {name: _restricted(before[name], value) for name, value in wanted.items() if name in before}
    return before
