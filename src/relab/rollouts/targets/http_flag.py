"""Read and change a flag over HTTP, at the URLs that the plan gives."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from relab.core.json import JsonValue, canonical_json
from relab.rollouts.errors import TargetUnavailableError
from relab.rollouts.plans.subject import HttpFlagSubject
from relab.rollouts.targets.identity import flag_identity
from relab.rollouts.targets.json_client import JsonClient, at_pointer, curl, shown_url, with_environment
from relab.rollouts.targets.protocol import FlagState, check_size
from relab.rollouts.targets.service_flags import check_change

_PLACEHOLDER = "$value"


class HttpFlagTarget:
    """A flag with one JSON value; each change replaces the whole value.

    Args:
        subject: the URLs, the template of the body, and the positions of values in answers.
        environment: the environment variables to which the plan's HTTP headers may refer.
        timeout_s: time limit of a request.
    """

    def __init__(self, subject: HttpFlagSubject, environment: Mapping[str, str], *, timeout_s: float) -> None:
        self._subject = subject
        self._client = JsonClient(timeout_s, with_environment(subject.headers, environment))

    @property
    def name(self) -> str:
        """The name of the flag for leases and messages: the URL to which changes are sent, in a normal form."""
        return flag_identity(self._subject.url)

    def read(self) -> FlagState:
        """Return the value of the flag, and its version if the plan names a `version_pointer`."""
        url = self._subject.read_url or self._subject.url
        document = self._client.get(url)
        try:
            value = at_pointer(document, self._subject.pointer)
            pointer = self._subject.version_pointer
            version = None if pointer is None else str(at_pointer(document, pointer))
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
        return FlagState(value, version)

    def send(self, wanted: JsonValue, expected: str | None) -> None:
        """Set the flag to the value `wanted`, if its version is `expected`; None skips this check."""
        headers = {} if expected is None else {"If-Match": f'"{expected}"'}
        url, body = self._request_for(wanted)
        answer = self._client.request(self._subject.method, url, body, headers=headers)
        check_change(shown_url(self._subject.url), answer.status, answer.problem())

    def holds(self, state: FlagState, wanted: JsonValue) -> bool:
        """Return whether the value in `state` equals `wanted`."""
        return canonical_json(state.value) == canonical_json(wanted)

    def inverse(self, wanted: JsonValue, before: FlagState) -> JsonValue:  # noqa: ARG002 the protocol's parameter
        """Return the value in `before`: a change to this value restores the flag, whatever `wanted` is."""
        return before.value

    def command(self, wanted: JsonValue) -> str:
        """Return a curl command that sets the flag to `wanted` without a check of its version."""
        url, body = self._request_for(wanted)
        return curl(self._subject.method, url, body, self._subject.headers)

    def _request_for(self, wanted: JsonValue) -> tuple[str, JsonValue]:
        url, sent_as = self._subject.url, self._subject.sent_as
        sent = wanted if sent_as is None else sent_as[canonical_json(wanted)]
        if _PLACEHOLDER in url:
            text = sent if isinstance(sent, str) else canonical_json(sent)
            url = url.replace(_PLACEHOLDER, quote(text, safe=""))
        return url, _filled(self._subject.body, sent)


def _filled(template: JsonValue, value: JsonValue) -> JsonValue:
    if template == _PLACEHOLDER:
        return value
    if isinstance(template, dict):
        return {name: _filled(item, value) for name, item in template.items()}
    if isinstance(template, list):
        return [_filled(item, value) for item in template]
    return template
