"""Start and stop the measured responder, which may be any program, and request its status.

Where bubblewrap works, the responder sees only its own processes, and no folder that reveals the planned faults. On
other machines, the responder is not isolated; the observations of the episode then have `is_blinded` false.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.errors import InvalidInputError, UnavailableError
from relab.core.validation import problems_of
from relab.testbed.scoring.status import Sight, read_status

STATUS_PATH: Final = "/agent/status"
_MAX_STATUS_BYTES: Final = 1 << 20
_RESPONSE_TIMEOUT_S: Final = 1.0
_POLL_INTERVAL_S: Final = 0.1
_STOP_TIMEOUT_S: Final = 5.0
_TAIL_BYTES: Final = 2_000
NOTICES: Final = "{notices}"


class WrongBindingsError(InvalidInputError):
    """The bindings are invalid. Bindings are the settings by which an experiment starts a responder."""

    code = "wrong_bindings"


class NoResponderError(UnavailableError):
    """The responder cannot be started, or does not return its status in time."""

    code = "no_responder"


class Bindings(BaseModel):
    """The settings in an experiment that say how to start a responder (a program that diagnoses and repairs incidents).

    Attributes:
        responder_command: program and arguments. An argument `{python}` is replaced by the path of this Python
            interpreter, and an argument `{port}` by the port on which the responder must listen.
        responder_environment: additional environment variables; `{notices}` stands for the address of a webhook for
            notices to people.
        responder_passes: names of this process's environment variables to pass on; relab does not record their values.
        responder_secrets: names of further environment variables to pass on. Their values are not recorded, and are
            removed from all files that the trial leaves, such as the responder's log.
        poll_interval_s: the interval in seconds at which the responder should poll the target.
        start_within_s: time limit in seconds for the start; the responder must answer a request for its status by then.
        keeps_home: whether the responder keeps its home folder from one episode (test) to the next.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    responder_command: list[str] = Field(min_length=1)
    responder_environment: dict[str, str] = {}
    responder_passes: list[str] = []
    responder_secrets: list[str] = []
    poll_interval_s: float = Field(1.0, gt=0, le=3_600)
    start_within_s: float = Field(60.0, gt=0, le=600)
    keeps_home: bool = False

    @property
    def sends_notices(self) -> bool:
        """Whether the responder gets the address of a webhook for notices to people."""
        return any(NOTICES in value for value in self.responder_environment.values())

    @classmethod
    def read(cls, given: Any) -> Bindings:
        """Validate a trial's `bindings`, which say how to start the responder, and return them as an object.

        `given` is the mapping in the trial's input; its unknown keys are ignored.

        Raises:
            WrongBindingsError: a field is invalid; the error lists all invalid fields.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = problems_of(error, root="bindings")
            raise WrongBindingsError(f"bindings.{problems[0][0]}: {problems[0][1]}.", problems=problems) from error


@dataclass
class RunningResponder:
    """A running responder.

    Attributes:
        url: the responder's address.
        process: the responder's process, or the bubblewrap process that contains it.
        log: the file with the responder's output.
        is_blinded: whether other processes and the hidden folders are invisible to the responder.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    is_blinded: bool = False
    _client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self._client = httpx.Client(base_url=self.url, timeout=_RESPONSE_TIMEOUT_S, trust_env=False)

    @property
    def is_alive(self) -> bool:
        """Whether the responder's process runs."""
        return self.process.poll() is None

    def look(self, at_s: float) -> Sight:
        """Request the responder's status once, and return it.

        If the responder gives no valid answer within a second, the result has `answered` False.

        Args:
            at_s: the current time, in seconds after the responder was ready; it is copied into the result.
        """
        deadline = time.monotonic() + _RESPONSE_TIMEOUT_S
        try:
            with self._client.stream("GET", STATUS_PATH) as answer:
                body = b""
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > _MAX_STATUS_BYTES or time.monotonic() > deadline:
                        return Sight(at_s, answered=False)
                document = httpx.Response(answer.status_code, content=body).json() if answer.is_success else None
        except (httpx.HTTPError, ValueError, RecursionError):
            return Sight(at_s, answered=False)
        return read_status(at_s, document)

    def wait_ready(self, within_s: float) -> None:
        """Wait until the responder returns its status, at most `within_s` seconds.

        Raises:
            NoResponderError: the responder has ended, or the time limit has passed.
        """
        deadline = time.monotonic() + within_s
        while not self.look(0.0).answered:
            if not self.is_alive:
                raise NoResponderError(f"The responder ended with {self.process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise NoResponderError(
                    f"The responder does not answer GET {STATUS_PATH} on PORT within {within_s:g} s: {self._last_words()}"
                )
            time.sleep(_POLL_INTERVAL_S)

    def end(self) -> None:
        """End the responder and all processes that it started: SIGTERM first, SIGKILL after at most 5 s."""
        self._client.close()
        self._ask_to_end()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_STOP_TIMEOUT_S)
        # Processes that it started may outlive it.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _ask_to_end(self) -> None:
        if not self.is_blinded:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            return
        # Signal the children of bubblewrap: bubblewrap itself would end at once, and kill the responder in mid-work.
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.terminate()

    def _last_words(self) -> str:
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() or "its log is empty"


@contextmanager
def a_responder(
    bindings: Bindings,
    *,
    target: str,
    actions: str,
    token: str,
    home: Path,
    notices: str = "",
    hidden: Sequence[Path] = (),
) -> Iterator[RunningResponder]:
    """Start a responder, yield it when it answers a request for its status, and stop it when the block ends.

    Args:
        bindings: how to start the responder.
        target: the address of the target.
        actions: the address of the action server.
        token: the responder's token for the action server.
        home: the responder's own folder.
        notices: the address of the webhook for notices to people; empty if the bindings request none.
        hidden: folders that the responder must not see.

    Raises:
        NoResponderError: the responder cannot be started, or does not become ready.
    """
    home.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    words = {"{python}": sys.executable, "{port}": str(port)}
    command = [words.get(word, word) for word in bindings.responder_command]
    environment = {
        name: value.replace(NOTICES, notices)
        for name, value in _environment(
            bindings, target=target, actions=actions, token=token, home=home, port=port
        ).items()
    }
    if shutil.which(command[0] if "/" not in command[0] else home / command[0], path=environment["PATH"]) is None:
        raise NoResponderError(f"The responder {command[0]!r} cannot be started: the program does not exist.")
    bwrap = find_bubblewrap()
    blinds = _blinds(bwrap, home, hidden) if bwrap is not None else []
    log = home / "responder.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 to run the user's own program is the purpose
                [*blinds, *command],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise NoResponderError(f"The responder {command[0]!r} cannot be started: {error}.") from error
    responder = RunningResponder(f"http://127.0.0.1:{port}", process, log, is_blinded=bool(blinds))
    try:
        responder.wait_ready(bindings.start_within_s)
        yield responder
    finally:
        responder.end()


def find_bubblewrap() -> str | None:
    """Return the path of the program bubblewrap; None if it is missing or cannot hide processes on this machine."""
    path = shutil.which("bwrap")
    return path if path is not None and _can_restrict(path) else None


@functools.cache
def _can_restrict(bwrap: str) -> bool:
    tried = [bwrap, "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0  # noqa: S603 our own words


def _blinds(bwrap: str, home: Path, hidden: Sequence[Path]) -> list[str]:
    """Return the words to put before a command so that the command runs in a bubblewrap sandbox.

    The sandbox hides all other processes and the folders `hidden`. The command can use the folder `home`, even inside
    a hidden folder. It can also use all other files and the network of this machine.
    """
    found = [bwrap, "--die-with-parent", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc"]
    for folder in hidden:
        found += ["--tmpfs", str(folder)]
    # The home may lie inside a hidden folder, so bind it last.
    return [*found, "--bind", str(home), str(home), "--"]


def _environment(
    bindings: Bindings, *, target: str, actions: str, token: str, home: Path, port: int
) -> Mapping[str, str]:
    """Return all environment variables of the responder.

    Of this process's variables, the responder gets only PATH and those that `bindings` names.

    Args:
        bindings: how to start the responder.
        target: the address of the target.
        actions: the address of the action server.
        token: the responder's token for the action server.
        home: the responder's own folder.
        port: the port on which the responder must listen.
    """
    # Other variables could reveal why the responder was started.
    handed_on = (*bindings.responder_passes, *bindings.responder_secrets)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": str(home),
        **bindings.responder_environment,
        **{name: os.environ[name] for name in handed_on if name in os.environ},
        "TARGET_API_BASE_URL": target,
        "ACTION_SERVER_URL": actions,
        "ACTION_SERVER_TOKEN": token,
        "PORT": str(port),
        "POLL_INTERVAL_SECONDS": f"{bindings.poll_interval_s:g}",
        "RELAB_HOME": str(home),
        "DATABASE_URL": f"sqlite:///{home / 'relab.db'}",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
