"""Write structured logs to stderr, as readable lines or as JSON lines.

structlog is loaded only when the first record is logged. Many commands log nothing, and loading structlog would take
longer than the command itself.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import ModuleType

_OPTIONAL = ("greenlet", "rich")
"""Modules (5 MB) that structlog imports if they are installed: for threads of gevent, and for tracebacks with the
values of local variables."""


class _OptionalHidden:
    """Prevents structlog from importing its optional modules, to save memory.

    While this object is in `sys.meta_path`, imports of these modules fail in the thread that created the object.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, *_: object) -> None:
        if name in _OPTIONAL and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"structlog is loaded without {name}", name=name)


class _Structlog:
    """Loads structlog at its first use, and configures it if `configure_logging` was called."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._module: ModuleType | None = None
        self._is_wanted = False

    def module(self) -> Any:
        """Return the module `structlog`; the first call imports it."""
        module = self._module
        if module is None:
            with self._lock:
                module = self._module or self._load()
        return module

    def configure(self) -> None:
        """Send structlog's events to the log handlers of the standard library; if not loaded yet, after loading."""
        with self._lock:
            self._is_wanted = True
            if self._module is not None:
                _configure(self._module)

    def _load(self) -> ModuleType:
        hidden: Any = _OptionalHidden()
        sys.meta_path.insert(0, hidden)
        try:
            import structlog
        finally:
            sys.meta_path.remove(hidden)
        if self._is_wanted:
            _configure(structlog)
        self._module = structlog
        return structlog


_structlog: Final = _Structlog()


class EventLogger:
    """A logger of structured events, usually named after a module. It has the methods of structlog's loggers."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, method: str) -> Any:
        # The logger is kept, so that later events do not create it again. structlog reads its configuration at each
        # event, so a later configuration applies as well.
        logger = self.__dict__.get("_logger")
        if logger is None:
            logger = self.__dict__["_logger"] = _structlog.module().get_logger(self._name)
        return getattr(logger, method)


def get_logger(name: str) -> EventLogger:
    """Return the logger with a name, usually that of a module."""
    return EventLogger(name)


@contextmanager
def bound_contextvars(**values: Any) -> Iterator[None]:
    """Add values to each event that this thread or task logs inside the `with` block."""
    with _structlog.module().contextvars.bound_contextvars(**values):
        yield


def configure_logging(level: str, *, json_lines: bool) -> None:
    """Send the logs of relab and of its libraries to stderr in one format.

    Each line has the values bound with `bound_contextvars`, such as request id and job id.

    Args:
        level: the lowest level that is logged, such as `INFO`.
        json_lines: whether each line is JSON instead of readable text.
    """
    _structlog.configure()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(json_lines=json_lines, colors=sys.stderr.isatty()))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "httpx", "httpcore", "alembic", "rq"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


class _Formatter(logging.Formatter):
    """Formats log records of relab and of its libraries in the same way, as JSON lines or as text for a terminal.

    structlog is loaded when the first record is formatted.
    """

    def __init__(self, *, json_lines: bool, colors: bool) -> None:
        super().__init__()
        self._json_lines = json_lines
        self._colors = colors
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = self._make()
        return self._formatter.format(record)

    def _make(self) -> logging.Formatter:
        structlog = _structlog.module()
        renderer: list[Any] = (
            [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
            if self._json_lines
            # Plain tracebacks, because the default ones show local variables, which may contain secrets, and are slow.
            else [structlog.dev.ConsoleRenderer(colors=self._colors, exception_formatter=structlog.dev.plain_traceback)]
        )
        formatter: logging.Formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(structlog),
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
        return formatter


def _shared(structlog: Any) -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _configure(structlog: Any) -> None:
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(structlog),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
