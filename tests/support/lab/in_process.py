"""`lab` commands in the process of the test: a forked process needs 50 ms of system time, most commands need 10 ms.

Behaviour that needs a separate process (exit, signals, broken pipes, two commands at once) is tested with `cli.Lab`.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest import mock

import structlog

from relab.cli.main import run
from relab.core.logging import bound_contextvars
from support.lab.cli import Lab
from support.lab.preloaded import can_fork

_SERVERS = frozenset({"serve", "worker"})
"""The commands that run until they are stopped, and start processes and threads."""


@dataclass(frozen=True)
class InProcessLab(Lab):
    """A home of relab whose commands run in this process, except for servers.

    Each command has its own arguments, environment, folder and standard streams, and restores those of this process and
    its logging. An environment with variables that Python reads only at its start needs a separate process.
    """

    def _run(self, arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes) -> CompletedProcess[bytes]:
        if (arguments[:1] and arguments[0] in _SERVERS) or not can_fork(environment):
            return super()._run(arguments, environment, stdin)
        with ExitStack() as kept:
            source, out, err = (kept.enter_context(tempfile.TemporaryFile()) for _ in range(3))
            source.write(stdin)
            source.seek(0)
            code = _run_here(arguments, environment, self.home, [source, out, err])
            for file in (out, err):
                file.seek(0)
            return CompletedProcess(list(arguments), code, out.read(), err.read())


def _run_here(arguments: Sequence[str], environment: Mapping[str, str], cwd: Path, files: Sequence[Any]) -> int:
    with ExitStack() as kept:
        kept.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        kept.enter_context(chdir(cwd))
        kept.enter_context(mock.patch.object(sys, "argv", ["lab", *arguments]))
        kept.enter_context(_kept_logging())
        source, out, err = (io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape") for file in files)
        for stream in (source, out, err):
            # The file stays open, because its owner reads it.
            kept.callback(stream.detach)
        kept.enter_context(mock.patch.object(sys, "stdin", source))
        kept.enter_context(redirect_stdout(out))
        kept.enter_context(redirect_stderr(err))
        try:
            run()
        except SystemExit as end:
            code = end.code
        out.flush()
        err.flush()
    return 0 if code is None else code if isinstance(code, int) else 1


@contextmanager
def _kept_logging() -> Iterator[None]:
    """Restore the logging configuration after a command; loggers that the command uses do not keep its own."""
    # Loads structlog with the configuration of this process, if the command would be the first to log.
    with bound_contextvars():
        configured = structlog.get_config()
    root = logging.getLogger()
    handlers = root.handlers
    loggers = [root, *(each for each in root.manager.loggerDict.values() if isinstance(each, logging.Logger))]
    levels = [logger.level for logger in loggers]
    configure = structlog.configure

    def configure_uncached(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    try:
        with mock.patch.object(structlog, "configure", configure_uncached):
            yield
    finally:
        structlog.configure(**configured)
        root.handlers = handlers
        for logger, level in zip(loggers, levels, strict=True):
            if logger.level != level:
                logger.setLevel(level)
