"""The supervisor's API, without processes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient

from relab.testbed.layout import Layout
from relab.testbed.supervisor import control
from relab.testbed.supervisor.plan import Ports, SupervisorPlan
from relab.testbed.supervisor.supervisor import Supervisor


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/settings", {"changes": {"workers": 1}}),
        ("PUT", "/settings", {"settings": {"workers": 1}, "restart": False}),
        ("POST", "/settings/rollback", {"version": 1}),
    ],
)
def test_settings_are_not_changed_while_the_testbed_is_not_ready(
    tmp_path: Path, method: str, path: str, body: dict[str, Any]
) -> None:
    layout = Layout.of(tmp_path, "a")
    layout.root.mkdir(parents=True)
    supervisor = Supervisor(SupervisorPlan(home=tmp_path, name="a", ports=Ports(target=1, chaos=2, actions=3)), layout)
    supervisor.settings.begin({"workers": 2})
    client = TestClient(control.create_app(supervisor, lambda: None))

    answer = client.request(method, path, json={"author": "a", **body})

    assert (answer.status_code, answer.json()["error"]["message"]) == (
        409, "The testbed is starting; wait until it is ready.",
    )  # fmt: skip
    assert [item.version for item in supervisor.settings.history()] == [1]


@pytest.mark.parametrize(
    ("error", "message", "remedy"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/testbeds/a/state.json"),
            "A file cannot be used: No space left on device (state.json).",
            "Free space on its disk, then try again.",
        ),
        (ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)), "The operation failed: No such process.", None),
        (TimeoutError(), "The operation failed: TimeoutError.", None),
    ],
)
def test_error_of_the_operating_system_is_answered_with_its_reason_and_logged(
    tmp_path: Path, error: OSError, message: str, remedy: str | None
) -> None:
    layout = Layout.of(tmp_path, "a")
    layout.root.mkdir(parents=True)

    class FailingSupervisor(Supervisor):
        async def reset(self) -> None:
            raise error

    plan = SupervisorPlan(home=tmp_path, name="a", ports=Ports(target=1, chaos=2, actions=3))
    client = TestClient(
        control.create_app(FailingSupervisor(plan, layout), lambda: None), raise_server_exceptions=False
    )

    with structlog.testing.capture_logs() as logged:
        answer = client.post("/reset")

    assert answer.status_code == 503
    assert answer.json()["error"] == {"code": "unavailable", "message": message, "remedy": remedy}
    assert [(entry["path"], entry["exc_info"]) for entry in logged] == [("/reset", error)]
