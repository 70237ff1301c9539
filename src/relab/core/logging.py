"""Structured logs on stderr: readable lines in development, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

_OPTIONAL = ("greenlet", "rich")
"""What structlog loads if it is installed, 5 MB: threads of gevent, and tracebacks with the values of local variables."""


class _OptionalHidden:
    """Hides optional modules from the imports of one thread; see `importlib.abc.MetaPathFinder`."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, *_: object) -> None:
        if name in _OPTIONAL and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"structlog is loaded without {name}", name=name)


_hidden: Any = _OptionalHidden()
sys.meta_path.insert(0, _hidden)
try:
    import structlog
finally:
    sys.meta_path.remove(_hidden)

bound_contextvars = structlog.contextvars.bound_contextvars
get_logger = structlog.get_logger


def configure_logging(level: str, *, json_lines: bool) -> None:
    """Send the logs of relab and of its libraries to stderr in one format.

    Context bound with `structlog.contextvars` (request id, job id) is on every line. External text is always a value of
    a log event, never its format string.

    Args:
        level: the lowest level that is logged, such as `INFO`.
        json_lines: whether each line is JSON instead of readable text.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json_lines
        # Plain tracebacks, because the default ones show local variables, which may contain secrets, and are slow.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "httpx", "httpcore", "alembic", "rq"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
