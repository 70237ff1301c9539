"""Send JSON over HTTP, and read answers of limited size.

Each request uses a new connection. Repeated requests thus reach several workers of a service, and show whether the
workers answer differently.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
import shlex
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from relab.core.clock import SystemClock
from relab.core.errors import MalformedBodyError
from relab.core.json import JsonValue, canonical_json, parse_json
from relab.rollouts.errors import RequestFailedError, SubjectError, TargetUnavailableError
from relab.rollouts.targets.retries import RetryLog, repeated

if TYPE_CHECKING:
    import ssl

MAX_BYTES: Final = 4 << 20
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ALLOWED_PREFIX: Final = "ROLLOUT_"
_PRINTABLE: Final = re.compile(r"[ -~]*")
_CREDENTIAL_NAME: Final = re.compile(r"auth|cookie|credential|key|pass|secret|session|signature|token", re.IGNORECASE)
_CREDENTIAL_VALUE: Final = re.compile(r"\s*(basic|bearer|digest|token)\s", re.IGNORECASE)
_SHOWN: Final = 300
_REMEDY: Final = "Start the service, or check the URL in the plan."
_AT_ONCE: Final = 4
_TOO_MANY: Final = frozenset({429, 503})
"""The statuses with which servers limit the number of requests or of connections."""


class NoBody(Enum):
    """The type of `NO_BODY`, which stands for a request without a body; None is the JSON value `null`."""

    NO_BODY = "no body"


NO_BODY: Final = NoBody.NO_BODY


@dataclass(frozen=True, slots=True)
class JsonAnswer:
    """An HTTP answer.

    Attributes:
        status: the status.
        document: the body as JSON; None if it is not JSON.
        is_json: whether the body is JSON; an empty body is not.
        fault: why the body is not JSON, shortened to 300 characters; empty if it is.
        headers: the headers, by their names in lower case.
        clock_skew_s: the smallest possible difference between the server's clock and this machine's clock, in seconds.
            It is positive if the server's clock is ahead. It is computed from the header `Date`, which has whole
            seconds, and from the duration of the request. 0.0 if the header is missing or unusable, or if the clocks
            may be equal.
    """

    status: int
    document: JsonValue
    is_json: bool
    headers: Mapping[str, str] = field(default_factory=dict)
    clock_skew_s: float = 0.0
    fault: str = ""

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def problem(self) -> str:
        """Return the status of an error response, with its JSON field `detail` if present, as text."""
        if isinstance(self.document, dict) and isinstance(self.document.get("detail"), str):
            return f"{self.status}: {self.document['detail']}"[:_SHOWN]
        return str(self.status)


class JsonClient:
    """Sends HTTP requests and reads the JSON answers.

    `request` sends one request. The `get` methods repeat a request after a temporary failure.

    Args:
        timeout_s: time limit of a request, from its connection to the end of its answer.
        headers: sent with each request. They must not contain `${NAME}` any more (see `with_environment`).
        retries: counts the repeated GET requests; None: repetitions are not counted.
    """

    def __init__(
        self, timeout_s: float, headers: Mapping[str, str] | None = None, retries: RetryLog | None = None
    ) -> None:
        self._headers = dict(headers or {})
        self._retries = retries or RetryLog()
        self._timeout_s = timeout_s
        self._has_answered = False

    def request(
        self,
        method: str,
        url: str,
        body: JsonValue | NoBody = NO_BODY,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> JsonAnswer:
        """Send a request and return its answer, whatever its status. Redirects are not followed.

        Args:
            method: the HTTP method.
            url: the URL.
            body: the JSON to send; `NO_BODY` sends no body.
            headers: added to the client's own headers.

        Raises:
            RequestFailedError: the server does not answer, or its answer is not complete in time.
            TargetUnavailableError: the URL or a header is invalid, or the answer is larger than `MAX_BYTES`. Also if
                the connection fails before this client has received its first answer: the URL is then probably wrong.
        """
        import httpx

        content = None if isinstance(body, NoBody) else canonical_json(body).encode()
        sent = {**self._headers, **(headers or {})}
        if content is not None:
            sent["Content-Type"] = "application/json"
        clock, began_us = SystemClock(), SystemClock().now_us()
        try:
            status, found, received = asyncio.run(self._exchange(method, url, content, sent))
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _failed(url, f"no whole answer within {self._timeout_s:g} s") from error
        except httpx.RemoteProtocolError as error:
            # The text of this error quotes the answer.
            raise _failed(url, "the answer is no valid HTTP, or the connection was closed before it") from error
        except (httpx.ProtocolError, httpx.InvalidURL, UnicodeError) as error:
            # The text of this error quotes headers.
            raise TargetUnavailableError(
                f"{shown_url(url)} cannot be requested: the URL or a header is not valid.", remedy=_REMEDY
            ) from error
        except (httpx.HTTPError, OSError) as error:
            failure = _failed(url, str(error) or type(error).__name__)
            if isinstance(error, httpx.ConnectError) and not self._has_answered:
                # The address is probably wrong; repeating the request would only delay the message.
                raise TargetUnavailableError(failure.message, remedy=failure.remedy) from error
            raise failure from error
        self._has_answered = True
        skew_s = _clock_skew_s(received, began_us / 1e6, clock.now_us() / 1e6)
        try:
            return JsonAnswer(status, parse_json(found), is_json=True, headers=received, clock_skew_s=skew_s)
        except MalformedBodyError as error:
            return JsonAnswer(status, None, False, headers=received, clock_skew_s=skew_s, fault=error.message[:_SHOWN])

    async def _exchange(
        self, method: str, url: str, content: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes, dict[str, str]]:
        """Send a request, and return (status, whole body, headers) of the answer.

        Raises:
            TimeoutError: the answer is not complete within the client's time limit.
            TargetUnavailableError: the answer is larger than `MAX_BYTES`.
        """
        import httpx

        context = self._context_for(url)
        async with (
            # The time limit of httpx begins anew with each part of an answer.
            asyncio.timeout(self._timeout_s),
            httpx.AsyncClient(verify=context, timeout=self._timeout_s, trust_env=False) as client,
            client.stream(method, url, content=content, headers=headers) as answer,
        ):
            found = bytearray()
            async for part in answer.aiter_bytes():
                found += part
                if len(found) > MAX_BYTES:
                    raise TargetUnavailableError(f"{shown_url(url)} answers with more than {MAX_BYTES:,} bytes.")
            return answer.status_code, bytes(found), dict(answer.headers)

    def _context_for(self, url: str) -> ssl.SSLContext:
        """Return the TLS context that checks the server's certificate; for plain HTTP, a context that is not used."""
        return self._unused_context if url.lower().startswith("http:") else self._context

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        import httpx

        return httpx.create_ssl_context(trust_env=False)

    @functools.cached_property
    def _unused_context(self) -> ssl.SSLContext:
        import httpx

        return httpx.create_ssl_context(verify=False, trust_env=False)

    def get(self, url: str) -> JsonAnswer:
        """Send a GET request and return its answer, which always has status 2xx and a JSON body.

        After a temporary failure (no answer, 5xx or 408), the request is repeated.

        Raises:
            TargetUnavailableError: there is no answer, its status is not 2xx, or its body is not JSON.
        """
        return self._get(url)

    def get_repeatedly(self, url: str) -> JsonAnswer:
        """Send a GET request and return the answer, whatever its status; repeat the request after a temporary failure.

        A failure is temporary if there is no answer, or if the status is 5xx or 408. If the last attempt has such a
        status, its answer is returned.

        Raises:
            TargetUnavailableError: the last attempt has no answer, the request cannot be sent, or the answer is larger
                than `MAX_BYTES`.
        """

        def attempt() -> JsonAnswer:
            answer = self.request("GET", url)
            if answer.status >= 500 or answer.status == 408:
                raise _FailedAnswerError(url, answer)
            return answer

        try:
            return repeated(attempt, self._retries)
        except _FailedAnswerError as error:
            return error.answer
        except RequestFailedError as error:
            # A change that is repeated reads the flags before each attempt; it must not repeat this request again.
            raise TargetUnavailableError(error.message, remedy=error.remedy) from error

    def get_all(self, url: str, times: int) -> list[JsonAnswer]:
        """Send `times` GET requests, up to 4 at the same time, and return the answers.

        Raises:
            TargetUnavailableError: a request has no answer, or its status is not 2xx, or its body is not JSON.
        """
        if times == 1:
            return [self._get(url)]
        with ThreadPoolExecutor(min(times, _AT_ONCE)) as threads:
            return list(threads.map(lambda _number: self._get(url, times), range(times)))

    def _get(self, url: str, times: int = 1) -> JsonAnswer:
        """Send a GET request and return its answer, which always has status 2xx and a JSON body.

        Args:
            url: the URL.
            times: how many requests to this URL the caller sends. If the server limits the rate of requests, the error
                names this number.

        Raises:
            TargetUnavailableError: there is no answer, its status is not 2xx, or its body is not JSON.
        """
        answer = self.get_repeatedly(url)
        if not answer.is_success:
            remedy = "Check the URL and the headers in the plan, and the log of the service."
            if times > 1 and answer.status in _TOO_MANY:
                remedy = f"The flag was read {times} times in a row; set `reads: 1` in `subject.flags` of the plan."
            raise TargetUnavailableError(f"{shown_url(url)} answers {answer.problem()}.", remedy=remedy)
        if not answer.is_json:
            raise TargetUnavailableError(
                f"{shown_url(url)} answers with something that is not JSON. {answer.fault}",
                remedy="Check the URL in the plan.",
            )
        return answer


def shown_url(url: str) -> str:
    """Return a URL without its query, for messages: a query may contain a credential."""
    return url.partition("?")[0]


class _FailedAnswerError(RequestFailedError):
    """The server answered with a status of a temporary failure (5xx or 408); `answer` is this answer."""

    def __init__(self, url: str, answer: JsonAnswer) -> None:
        super().__init__(f"{shown_url(url)} answers {answer.problem()}.")
        self.answer = answer


def _failed(url: str, reason: str) -> RequestFailedError:
    return RequestFailedError(f"{shown_url(url)} does not answer: {reason}.", remedy=_REMEDY)


def _clock_skew_s(headers: Mapping[str, str], began_s: float, ended_s: float) -> float:
    """Return the smallest possible difference between a server's clock and this machine's clock, in seconds.

    It is computed from the header `Date` of an answer. It is positive if the server's clock is ahead, negative if it is
    behind, and 0.0 if the clocks may be equal.

    Args:
        headers: the headers of the answer, by their names in lower case.
        began_s: when the request began, in seconds since 1970, by the clock of this machine.
        ended_s: when the answer was complete, in the same way.
    """
    if "age" in headers:
        # The answer, with its date, may come from a cache.
        return 0.0
    try:
        date_s = parsedate_to_datetime(headers["date"]).timestamp()
    except (LookupError, ValueError, OverflowError, OSError):
        return 0.0
    # The header has whole seconds, so the server's clock was between `date_s` and `date_s` + 1.
    return max(date_s - ended_s, 0.0) + min(date_s + 1 - began_s, 0.0)


def with_environment(headers: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return headers in which each `${ROLLOUT_NAME}` is replaced by the environment variable of this name.

    Raises:
        SubjectError: a variable is not set, does not begin with `ROLLOUT_`, or contains a character that no header may
            contain; or a header contains a credential as plain text.
    """
    for name, text in headers.items():
        is_credential = _CREDENTIAL_NAME.search(name) or _CREDENTIAL_VALUE.match(text)
        if is_credential and text and not _VARIABLE.search(text):
            raise SubjectError(
                f"The header {name!r} holds a credential; plans are stored and shown.",
                remedy="Use ${ROLLOUT_NAME} in it, and give the credential in that environment variable.",
            )

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if not name.startswith(_ALLOWED_PREFIX):
            raise SubjectError(f"A header of the plan uses ${{{name}}}; names must begin with {_ALLOWED_PREFIX}.")
        if name not in environment:
            raise SubjectError(f"A header of the plan uses ${{{name}}}, which is not set.", remedy=f"export {name}=…")
        if not _PRINTABLE.fullmatch(environment[name]):
            raise SubjectError(
                f"The environment variable {name} contains a character that no HTTP header may have, such as a line end.",
                remedy="Set it without line ends, in ASCII.",
            )
        return environment[name]

    return {name: _VARIABLE.sub(value, text) for name, text in headers.items()}


def at_pointer(document: JsonValue, pointer: str) -> JsonValue:
    """Return the value at a JSON pointer (RFC 6901).

    Raises:
        LookupError: the document has no such position.
    """
    value = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value[key]
        elif isinstance(value, list) and key.isdecimal():
            value = value[int(key)]
        else:
            raise LookupError(pointer)
    return value


def curl(method: str, url: str, body: JsonValue | NoBody, headers: Mapping[str, str] | None = None) -> str:
    """Return a curl command, quoted for a shell. The command sends `body` as JSON.

    Args:
        method: the HTTP method.
        url: the URL.
        body: the JSON; `NO_BODY` for a request without a body.
        headers: the headers of the plan. `${ROLLOUT_NAME}` in them stays unquoted, so that the shell replaces it by the
            environment variable.
    """
    lines = [f"curl -X {method} {shlex.quote(url)}"]
    lines += [] if isinstance(body, NoBody) else ["-H 'Content-Type: application/json'"]
    lines += [f"-H {_quoted(f'{name}: {value}')}" for name, value in (headers or {}).items()]
    lines += [] if isinstance(body, NoBody) else [f"-d {shlex.quote(json.dumps(body))}"]
    return " \\\n  ".join(lines)


def _quoted(text: str) -> str:
    """Return a text as one quoted word of a shell command.

    The shell replaces a variable `${NAME}` only if its name begins with `ROLLOUT_`. All other text stays as it is.
    """
    word, end = "", 0
    for found in _VARIABLE.finditer(text):
        if found[1].startswith(_ALLOWED_PREFIX):
            word += _literal(text[end : found.start()]) + f'"{found[0]}"'
            end = found.end()
    return word + _literal(text[end:]) or "''"


def _literal(text: str) -> str:
    return shlex.quote(text) if text else ""
