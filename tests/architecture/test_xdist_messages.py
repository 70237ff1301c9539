"""The messages of a process of pytest-xdist: every outcome is sent, and what no output uses is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from support.lab.xdist_messages import send_only_used


class Interactor:
    def __init__(self) -> None:
        self.sent: list[str] = []

    def sendevent(self, name: str, **content: Any) -> None:
        data = content.get("data", {})
        self.sent.append(" ".join([name, data.get("when", ""), data.get("outcome", "")]).strip())


def messages(**options: object) -> list[str]:
    """Return which of the messages about a passed test and about failed phases are sent with these options."""
    interactor = Interactor()
    plugins = [object(), interactor]
    option = SimpleNamespace(**{"verbose": -1, "durations": None, "xmlpath": None, "reportchars": "a", **options})
    send_only_used(SimpleNamespace(option=option, pluginmanager=SimpleNamespace(get_plugins=lambda: plugins)))  # type: ignore[arg-type]
    interactor.sendevent("logstart", nodeid="a")
    for outcome in ("passed", "failed", "skipped"):
        for when in ("setup", "call", "teardown"):
            interactor.sendevent("testreport", data={"when": when, "outcome": outcome})
    interactor.sendevent("logfinish", nodeid="a")
    interactor.sendevent("runtest_protocol_complete", item_index=0, duration=0.1)
    return interactor.sent


def test_quiet_run_sends_every_outcome_and_every_end() -> None:
    assert messages() == [
        "testreport call passed",
        "testreport setup failed",
        "testreport call failed",
        "testreport teardown failed",
        "testreport setup skipped",
        "testreport call skipped",
        "testreport teardown skipped",
        "runtest_protocol_complete",
    ]


@pytest.mark.parametrize("options", [{"verbose": 1}, {"durations": 5}, {"xmlpath": "report.xml"}, {"reportchars": "P"}])
def test_options_that_use_all_messages_get_them(options: dict[str, object]) -> None:
    sent = messages(**options)

    assert len(sent) == 12
    assert {"logstart", "logfinish", "testreport setup passed", "testreport teardown passed"} <= set(sent)
