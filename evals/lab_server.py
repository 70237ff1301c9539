"""Run a private server: `lab serve` in a temporary home, which is removed when the `with` block ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

_OWN_SETTINGS = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "APP_ENV",
        "APP_INGEST_SECRET",
        "DATABASE_URL",
        "LOG_LEVEL",
        "OPENAI_API_KEY",
        "REDIS_URL",
        "RQ_QUEUE_NAME",
    }
)
"""Settings without the prefix that could connect the evaluation to a real database or model."""


class ServerStartError(Exception):
    """The server did not become ready; the message contains the end of its log."""


@contextmanager
def running_server(settings: Mapping[str, str] | None = None) -> Generator[str]:
    """Run `lab serve` with the embedded default database on a free loopback port, and yield its base URL.

    `settings` are environment variables.

    Raises:
        ServerStartError: the server exited, or was not ready within a minute.
    """
    with tempfile.TemporaryDirectory(prefix="relab-eval-") as home:
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        log = Path(home, "serve.log")
        command = [str(Path(sys.executable).with_name("lab")), "serve", "--host", "127.0.0.1", "--port", str(port)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=_environment(os.environ, home) | dict(settings or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=home,
            )
        try:
            _wait_until_ready(url, process, log)
            yield url
        finally:
            _stop(process)


def _environment(environ: Mapping[str, str], home: str) -> dict[str, str]:
    """Return the environment without the caller's relab settings, so that the evaluation measures the defaults."""
    kept = {key: value for key, value in environ.items() if key not in _OWN_SETTINGS and not key.startswith("RELAB_")}
    return {**kept, "RELAB_HOME": home}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz", timeout=2.0).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # the server is not listening yet
        time.sleep(0.2)
    state = "was not ready in time" if process.poll() is None else f"exited with code {process.returncode}"
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
    raise ServerStartError(f"lab serve {state}. The end of its log:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
