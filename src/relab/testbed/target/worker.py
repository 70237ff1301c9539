"""The process of one worker: read the settings, and serve on the shared port until a signal."""

from __future__ import annotations

import functools
import json
import logging
import os
import signal
import socket
import time
from pathlib import Path
from typing import Final

import uvicorn

from relab.core.clock import SystemClock
from relab.testbed.target.app import create_app
from relab.testbed.target.flow import DoorProtocol
from relab.testbed.target.log_files import LogFiles
from relab.testbed.target.logs import LibraryHandler, Logger
from relab.testbed.target.parts import Parts
from relab.testbed.target.settings import BadSettingsError, Listen, TargetSettings, load_settings

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_SETTINGS: Final = 3

BACKLOG: Final = 2_048
KEEP_ALIVE_S: Final = 30
GRACE_S: Final = 2


def run_worker(settings_path: Path, *, worker: int, qdrant_url: str | None) -> int:
    """Run one worker until a signal ends it; return the exit code: `EXIT_OK`, `EXIT_FAILED` or `EXIT_BAD_SETTINGS`.

    If the settings file is invalid, report the error in the log and on standard error, and return at once.

    Args:
        settings_path: the path of the settings file.
        worker: the worker's number, from 1.
        qdrant_url: the address of a Qdrant server, in place of `search.qdrant_url` of the settings; None to keep that.
    """
    try:
        settings = load_settings(settings_path)
    except BadSettingsError as error:
        _log_bad_settings(error, _log_path(settings_path), worker)
        return EXIT_BAD_SETTINGS
    if qdrant_url:
        search = settings.search.model_copy(update={"qdrant_url": qdrant_url})
        settings = settings.model_copy(update={"search": search})
    logger = _logger(settings.log_path, worker)
    try:
        return _serve(settings, worker, logger)
    except BadSettingsError as error:
        logger.log("critical", "bad_settings", error.message)
        return EXIT_BAD_SETTINGS
    except OSError as error:
        logger.log("critical", "start_failed", f"the worker cannot start: {error}")
        return EXIT_FAILED
    finally:
        logger.close()


def _serve(settings: TargetSettings, worker: int, logger: Logger) -> int:
    listening = _listen(settings.listen)
    try:
        parts = Parts(settings, worker=worker, logger=logger)
        root = logging.getLogger()
        root.handlers = [LibraryHandler(logger)]
        config = uvicorn.Config(
            create_app(parts),
            loop="uvloop",
            # uvicorn's annotation requires a class, but uvicorn only calls the value.
            http=functools.partial(DoorProtocol, gate=parts.gate, recorder=parts.recorder),  # type: ignore[arg-type]
            # No trusted proxy is in front of the workers, so headers about clients may be forged.
            proxy_headers=False,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        server = uvicorn.Server(config)
        # uvicorn stops gracefully on a signal, and then raises it again for the earlier handler; ignore it there.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        server.run(sockets=[listening])
    finally:
        listening.close()
    return EXIT_OK if server.started else EXIT_FAILED


def _listen(listen: Listen) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Each worker has its own accept queue: only this worker can accept the connections in it.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening


def _logger(log_path: Path, worker: int) -> Logger:
    files = LogFiles(log_path, worker=worker, started_us=time.time_ns() // 1_000)
    return Logger(files, worker=worker, clock=SystemClock())


def _log_path(settings_path: Path) -> Path | None:
    """Return the field `log_path` of a settings file, even if other settings are invalid.

    Return None if the file cannot be read, is not JSON, or has no such field.
    """
    try:
        found = json.loads(settings_path.read_bytes())["log_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(found) if isinstance(found, str) else None


def _log_bad_settings(error: BadSettingsError, log_path: Path | None, worker: int) -> None:
    os.write(2, f"{error.message}\n".encode())
    if log_path is None:
        return
    try:
        logger = _logger(log_path, worker)
    except OSError:
        return
    logger.log("critical", "bad_settings", error.message)
    logger.close()
