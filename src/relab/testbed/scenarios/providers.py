"""Perform activities: HTTP requests and, if the caller allows code, commands and Python functions."""

from __future__ import annotations

import importlib
import shlex
import subprocess
from typing import Any, Final

from relab.core.errors import RelabError
from relab.testbed.scenarios.models import Activity, HttpProvider, ProcessProvider, PythonProvider
from relab.testbed.scenarios.variables import Variables

DEFAULT_TIMEOUT_S: Final = 10.0
BAD_STATUS: Final = 400
_JSON: Final = "application/json"
_SHOWN: Final = 500


class ActivityFailedError(RelabError):
    """An activity has no output.

    - HTTP request: no answer, or an answer with invalid JSON.
    - Command: it could not be run, or timed out.
    - Python function: it could not be imported, or raised an exception.
    """

    code = "activity_failed"


def perform(activity: Activity, variables: Variables) -> Any:
    """Perform an activity, with the values of `variables` in place of `${name}`, and return its output.

    The kind of the activity determines the output:
    - a request: `{status, headers, body}`, whatever the status.
    - a command: `{status, stdout, stderr}`, with the exit code as `status`.
    - a Python function: its return value.

    Raises:
        ActivityFailedError: there is no output.
        ScenarioError: a time-out of the activity is not a valid number of seconds.
    """
    provider = activity.provider
    if isinstance(provider, HttpProvider):
        return _request(provider, variables)
    if isinstance(provider, ProcessProvider):
        return _command(provider, variables)
    return _function(provider, variables)


def refusal(output: Any) -> str | None:
    """Return a message with the status and body of a rejected request (status 400 or above); None for other outputs.

    Args:
        output: the output of an activity, such as `{status, headers, body}` of an HTTP request.
    """
    if not isinstance(output, dict) or not isinstance(output.get("status"), int) or output["status"] < BAD_STATUS:
        return None
    return f"it is answered with {output['status']}: {str(output.get('body'))[:_SHOWN]}"


def _request(provider: HttpProvider, variables: Variables) -> dict[str, Any]:
    import httpx  # noqa: PLC0415 the command line shows its help without it

    headers = {name: str(value) for name, value in variables.fill(provider.headers).items()}
    arguments = variables.fill(provider.arguments)
    content: dict[str, Any] = {}
    if arguments:
        if provider.method == "GET":
            content["params"] = arguments
        elif headers.get("Content-Type") == _JSON:
            content["json"] = arguments
        else:
            content["data" if isinstance(arguments, dict) else "content"] = arguments
    url = str(variables.fill(provider.url))
    # Plain HTTP needs no certificates, and loading them takes longer than the request.
    verify = provider.verify_tls and url.startswith("https:")
    try:
        with httpx.Client(
            transport=httpx.HTTPTransport(retries=provider.max_retries, verify=verify),
            timeout=_timeout(provider, variables),
            follow_redirects=True,
            trust_env=False,
        ) as client:
            answer = client.request(provider.method, url, headers=headers, **content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = str(error) or type(error).__name__
        raise ActivityFailedError(f"{provider.method} {provider.url}: {said}.") from error
    # The exact comparison of chaostoolkit, so that both treat the same answers as JSON.
    is_json = answer.headers.get("Content-Type") == _JSON
    try:
        body = answer.json() if is_json else answer.text
    except ValueError as error:
        raise ActivityFailedError(f"{provider.method} {provider.url}: the answer is not the JSON it claims.") from error
    return {"status": answer.status_code, "headers": dict(answer.headers), "body": body}


def _timeout(provider: HttpProvider, variables: Variables) -> Any:
    import httpx  # noqa: PLC0415 as above

    given = provider.timeout
    if given is None:
        return DEFAULT_TIMEOUT_S
    if not isinstance(given, list):
        return variables.seconds(given, "timeout")
    seconds = [variables.seconds(each, "timeout") for each in given]
    return httpx.Timeout(seconds[-1], connect=seconds[0])


def _command(provider: ProcessProvider, variables: Variables) -> dict[str, Any]:
    arguments = variables.fill(provider.arguments)
    if isinstance(arguments, dict):
        words = [str(part) for pair in arguments.items() for part in pair if part is not None and part != ""]
    else:
        words = shlex.split(arguments) if isinstance(arguments, str) else [str(each) for each in arguments or []]
    path = str(variables.fill(provider.path))
    within_s = DEFAULT_TIMEOUT_S if provider.timeout is None else variables.seconds(provider.timeout, "timeout")
    try:
        done = subprocess.run(  # noqa: S603 the caller has allowed code
            [path, *words], capture_output=True, timeout=within_s, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ActivityFailedError(f"{provider.path}: {error}.") from error
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    return {"status": done.returncode, "stdout": out, "stderr": err}


def _function(provider: PythonProvider, variables: Variables) -> Any:
    name = f"{provider.module}.{provider.func}"
    try:
        function = getattr(importlib.import_module(provider.module), provider.func)
    except (ImportError, AttributeError) as error:
        raise ActivityFailedError(f"{name}: {error}.") from error
    try:
        return function(**variables.fill(provider.arguments))
    except Exception as error:
        raise ActivityFailedError(f"{name}: {type(error).__name__}: {error}.") from error
