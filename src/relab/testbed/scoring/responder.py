"""The responder that is measured: any program, started with addresses, a token, and nothing else.

Where bubblewrap is, it sees no process but its own, and none of the folders that tell what it is measured by. Elsewhere
the episode says that it could have looked.
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
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relab.core.errors import InvalidInputError, UnavailableError
from relab.testbed.scoring.status import Sight, read_status

STATUS_PATH: Final = "/agent/status"
_MAX_STATUS_BYTES: Final = 1 << 20
_ANSWERS_WITHIN_S: Final = 1.0
_LOOK_AGAIN_S: Final = 0.1
_ENDS_WITHIN_S: Final = 5.0
_TAIL_BYTES: Final = 2_000
NOTICES: Final = "{notices}"


class WrongBindingsError(InvalidInputError):
    """The variant's bindings are not those of a responder."""

    code = "wrong_bindings"


class NoResponderError(UnavailableError):
    """The responder cannot be started, or does not say how it is in time."""

    code = "no_responder"


class Bindings(BaseModel):
    """How a responder is started: the bindings of a variant.

    Attributes:
        responder_command: program and arguments; `{python}` is this interpreter, `{port}` where it is to listen.
        responder_environment: further variables of its own; `{notices}` in a value is the address of a webhook that keeps the
            times of notices to people.
        responder_passes: names of variables that it is given as they are where it is started; no file has their values.
        responder_secrets: the same, and whatever comes of a trial is searched for their values.
        poll_interval_s: how often it is to look.
        start_within_s: how long it may take until it says how it is.
        keeps_home: whether it finds in an episode what it has kept of those before.
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
        """Whether it is given the address for notices."""
        return any(NOTICES in value for value in self.responder_environment.values())

    @classmethod
    def read(cls, given: Any) -> Bindings:
        """Read the bindings of a trial.

        Raises:
            WrongBindingsError: with each field that is wrong.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = tuple(
                (".".join(map(str, item["loc"])) or "bindings", item["msg"]) for item in error.errors()[:20]
            )
            raise WrongBindingsError(f"bindings.{problems[0][0]}: {problems[0][1]}.", problems=problems) from error


@dataclass
class Responder:
    """A responder at work.

    Attributes:
        url: where it answers.
        is_blinded: whether it sees its own processes only.
    """

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    is_blinded: bool = False
    _client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self._client = httpx.Client(base_url=self.url, timeout=_ANSWERS_WITHIN_S, trust_env=False)

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self.process.poll() is None

    def look(self, at_s: float) -> Sight:
        """Return what it says of itself; a responder that does not answer, or not in time, says nothing."""
        deadline = time.monotonic() + _ANSWERS_WITHIN_S
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
        """Return when it says how it is.

        Raises:
            NoResponderError: it has ended, or takes longer.
        """
        deadline = time.monotonic() + within_s
        while not self.look(0.0).answered:
            if not self.is_alive:
                raise NoResponderError(f"The responder ended with {self.process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise NoResponderError(
                    f"The responder does not answer GET {STATUS_PATH} on PORT within {within_s:g} s: {self._last_words()}"
                )
            time.sleep(_LOOK_AGAIN_S)

    def end(self) -> None:
        """End it and all that it has started in its session."""
        self._client.close()
        self._ask_to_end()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_ENDS_WITHIN_S)
        # What it has started may outlive it.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _ask_to_end(self) -> None:
        if not self.is_blinded:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            return
        # Bubblewrap itself would end at once, and take the responder with it in the middle of what it does.
        for pid in _below(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _last_words(self) -> str:
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip() or "it said nothing"


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
) -> Iterator[Responder]:
    """Start a responder and yield it when it says how it is; it is gone afterwards.

    Args:
        bindings: how it is started.
        target: where the target answers.
        actions: where the action server does.
        token: for actions.
        home: a folder of its own.
        notices: where it notifies people.
        hidden: folders that it is not to see.

    Raises:
        NoResponderError: it cannot be started, or does not become ready.
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
        raise NoResponderError(f"The responder {command[0]!r} cannot be started: there is no such program.")
    blinds = _blinds(home, hidden) if can_blind() else []
    log = home / "responder.log"
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 to run somebody's own program is the purpose
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
    responder = Responder(f"http://127.0.0.1:{port}", process, log, is_blinded=bool(blinds))
    try:
        responder.wait_ready(bindings.start_within_s)
        yield responder
    finally:
        responder.end()


def _below(pid: int) -> Iterator[int]:
    """Yield the processes below one that has one thread, as bubblewrap has."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _below(child)


@functools.cache
def can_blind() -> bool:
    """Return whether this machine lets a program see its own processes only."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return False
    tried = [bwrap, "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc", "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0  # noqa: S603 our own words


def _blinds(home: Path, hidden: Sequence[Path]) -> list[str]:
    """Return the words before a command that runs so: with the machine's files and network, and its own processes."""
    found = ["bwrap", "--die-with-parent", "--unshare-pid", "--dev-bind", "/", "/", "--proc", "/proc"]
    for folder in hidden:
        found += ["--tmpfs", str(folder)]
    # Its own may lie in one of them.
    return [*found, "--bind", str(home), str(home), "--"]


def _environment(
    bindings: Bindings, *, target: str, actions: str, token: str, home: Path, port: int
) -> Mapping[str, str]:
    """Return all that it is told. Nothing of this process's environment but where programs are: the rest may say why."""
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
