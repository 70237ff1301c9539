"""The messages of a process of pytest-xdist about each test: only those that the controlling process uses.

pytest-xdist sends six for each of thousands of tests, and each takes the two processes half a millisecond together.
"""

from __future__ import annotations

from typing import Any

import pytest

_UNUSED_WHEN_QUIET = frozenset({"logstart", "logfinish"})
"""The names of messages from which only verbose output is made."""


def send_only_used(config: pytest.Config) -> None:
    """Let this process send two messages for a test that passes: the report of its call, and its end.

    Reports of failed or skipped setups and teardowns are sent. All messages are sent if an option needs them: `-v`,
    `--durations`, `--junit-xml` or `-rP`.
    """
    option = config.option
    if (
        option.verbose > 0
        or option.durations is not None
        or option.xmlpath
        or not set(option.reportchars).isdisjoint("AP")
    ):
        return
    # The plugin by which pytest-xdist sends the events of this process.
    interactor: Any = next(each for each in config.pluginmanager.get_plugins() if hasattr(each, "sendevent"))
    send = interactor.sendevent

    def send_used(name: str, **content: Any) -> None:
        if name in _UNUSED_WHEN_QUIET:
            return
        if name == "testreport" and content["data"]["when"] != "call" and content["data"]["outcome"] == "passed":
            return
        send(name, **content)

    interactor.sendevent = send_used
