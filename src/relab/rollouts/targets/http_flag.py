"""Read and change a flag over HTTP, at the URLs that the plan gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from relab.core.json import JsonValue, canonical_json, equal_json
from relab.rollouts.errors import SubjectError, TargetUnavailableError
from relab.rollouts.plans.subject import HttpFlagSubject
from relab.rollouts.targets.identity import flag_identity
from relab.rollouts.targets.json_client import (
    NO_BODY,
    JsonAnswer,
    JsonClient,
    NoBody,
    at_pointer,
    curl,
    shown_url,
    with_environment,
)
from relab.rollouts.targets.protocol import FlagState, check_size
from relab.rollouts.targets.repeated_reads import RepeatedReader
from relab.rollouts.targets.retries import RetryLog
from relab.rollouts.targets.service_flags import check_change

_PLACEHOLDER: Final = "$value"


class HttpFlagTarget:
    """A flag with one JSON value; each change replaces the whole value.

    Args:
        subject: the URLs, the template of the body, and the positions of values in answers.
        environment: the environment variables that the plan's HTTP headers may use.
        timeout_s: time limit of a request.
        retries: counts the requests that are repeated after an error; None: they are not counted.
    """

    def __init__(
        self,
        subject: HttpFlagSubject,
        environment: Mapping[str, str],
        *,
        timeout_s: float,
        retries: RetryLog | None = None,
    ) -> None:
        self._subject = subject
        self._client = JsonClient(timeout_s, with_environment(subject.headers, environment), retries)
        self._reader = RepeatedReader(self._read_at_once, subject.reads)

    @property
    def name(self) -> str:
        """The name of the flag for leases and messages: the URL for changes, normalized by `flag_identity`."""
        return flag_identity(self._subject.url)

    def read(self) -> FlagState:
        """Return the value of the flag, and its version if the plan says where an answer has the version.

        The flag is read as often as the plan says (`reads`). If the answers have different values, because processes of
        the service differ, the state has all of these values.
        """
        return self._reader.read()

    def _read_at_once(self, times: int) -> list[FlagState]:
        url = self._subject.read_url or self._subject.url
        return [self._state(url, answer) for answer in self._client.get_all(url, times)]

    def _state(self, url: str, answer: JsonAnswer) -> FlagState:
        """Return the value and the version of the flag in one answer to a read.

        Raises:
            TargetUnavailableError: the answer has no value or version at the plan's JSON pointer, or it has a value
                that the plan cannot send, so the value could not be restored.
            SubjectError: the version header is missing, or has a weak tag, which `If-Match` does not allow.
        """
        document = answer.document
        try:
            value = at_pointer(document, self._subject.pointer)
            pointer = self._subject.version_pointer
            version = None if pointer is None else f'"{at_pointer(document, pointer)}"'
        except LookupError as error:
            raise TargetUnavailableError(
                f"The answer of {shown_url(url)} has nothing at {error}.",
                remedy="Check the pointers in `subject.flags`.",
            ) from error
        check_size(value, shown_url(url))
        try:
            self._subject.check_can_be_sent(value, shown_url(url))
        except ValueError as error:
            # Checked before the first change: a value that cannot be sent could not be restored.
            raise TargetUnavailableError(f"{error}.", remedy="Add it to `subject.flags.sent_as`.") from error
        name = self._subject.version_header
        return FlagState(value, version if name is None else _version_in(answer, name, url))

    def send(self, wanted: JsonValue, expected: str | None) -> None:
        """Set the flag to the value `wanted`, if its version is `expected`; None skips this check.

        Raises:
            FlagsChangedError: the flag has another version than `expected`.
            FlagsRejectedError: the service rejects the value.
            TargetUnavailableError: the service does not answer, or reports that it is unavailable.
        """
        headers = {} if expected is None else {"If-Match": expected}
        url, body = self._request_for(wanted)
        answer = self._client.request(self._subject.method, url, body, headers=headers)
        check_change(shown_url(self._subject.url), answer.status, answer.problem())

    def holds(self, state: FlagState, wanted: JsonValue) -> bool:
        """Return whether all values in `state` equal `wanted`."""
        return all(equal_json(value, wanted) for value in state.values)

    def inverse(self, wanted: JsonValue, before: FlagState) -> JsonValue:  # noqa: ARG002 the protocol's parameter
        """Return the value that restores the flag: the value in `before`. `wanted` is ignored."""
        return before.value

    def command(self, wanted: JsonValue) -> str:
        """Return a curl command that sets the flag to `wanted` without a check of its version."""
        url, body = self._request_for(wanted)
        return curl(self._subject.method, url, body, self._subject.headers)

    def _request_for(self, wanted: JsonValue) -> tuple[str, JsonValue | NoBody]:
        url, sent_as = self._subject.url, self._subject.sent_as
        sent = wanted if sent_as is None else sent_as[canonical_json(wanted)]
        if _PLACEHOLDER in url:
            text = sent if isinstance(sent, str) else canonical_json(sent)
            url = url.replace(_PLACEHOLDER, quote(text, safe=""))
        body = self._subject.body
        return url, NO_BODY if body is None else _filled(body, sent)


def _version_in(answer: JsonAnswer, name: str, url: str) -> str:
    """Return the version in the header `name` of an answer, in quotation marks, as `If-Match` requires.

    Raises:
        SubjectError: the answer does not have the header, or the header is a weak tag (`W/...`).
    """
    version = answer.headers.get(name.lower())
    if version is None:
        raise SubjectError(
            f"The answer of {shown_url(url)} has no header {name}.",
            remedy="Remove `version_header` from `subject.flags`.",
        )
    if version.startswith("W/"):
        # RFC 9110, 13.1.1: a change with a weak tag is always rejected.
        raise SubjectError(
            f"The header {name} of {shown_url(url)} is a weak tag, which no conditional change may name.",
            remedy="Remove `version_header` from `subject.flags`.",
        )
    return version if version.startswith('"') else f'"{version}"'


def _filled(template: JsonValue, value: JsonValue) -> JsonValue:
    if template == _PLACEHOLDER:
        return value
    if isinstance(template, dict):
        return {name: _filled(item, value) for name, item in template.items()}
    if isinstance(template, list):
        return [_filled(item, value) for item in template]
    return template
