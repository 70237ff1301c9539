"""Settings for an action class without actions: `lab doctor` and the responder warn of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from relab.bootstrap import Services
from rig.waiting import wait_until
from support.lab.cli import Lab
from support.testbed.action_servers import NOWHERE, RealServer, real_server

EXIT_UNAVAILABLE = 69
STRANGE = "'setings' (did you mean 'setting'?)"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """An action server whose one action is of the class `setting`."""
    with real_server(tmp_path_factory.mktemp("actions")) as found:
        yield found


def test_doctor_reports_an_action_class_without_actions(server: RealServer, tmp_path: Path) -> None:
    def check(classes: str, *, url: str = server.url, code: int = 0) -> tuple[str, str]:
        settings = {"ACTION_SERVER_URL": url, "ACTION_SERVER_TOKEN": server.tokens["responder"]}
        lab = Lab(tmp_path, {**settings, "RELAB_INCIDENTS__AUTONOMY_BY_CLASS": classes})
        checks = lab.run("doctor", "--json", code=code).json["checks"]
        return next((each["state"], each["found"]) for each in checks if each["name"] == "autonomy by class")

    state, found = check('{"setings": "observe", "setting": "act"}', code=EXIT_UNAVAILABLE)

    assert state == "problem"
    assert STRANGE in found
    assert "'setting'," not in found
    assert check('{"setting": "act"}') == ("ok", "setting: act")
    assert check('{"setings": "observe"}', url=NOWHERE)[0] == "note", "nobody can say"


def test_responder_warns_of_an_action_class_without_actions(
    server: RealServer, make_services: Callable[..., Services]
) -> None:
    services = make_services(
        target_api_base_url=NOWHERE,
        action_server_url=server.url,
        action_server_token=server.tokens["responder"],
        incidents={"autonomy": "act", "autonomy_by_class": {"setings": "observe", "setting": "act"}},
    )

    async def warned() -> list[str]:
        with structlog.testing.capture_logs() as logs:
            async with services.incidents.responding():
                found = await asyncio.to_thread(
                    wait_until,
                    lambda: [each for each in logs if each["event"] == "autonomy_for_unknown_class"],
                    what="a warning",
                )
        classes: list[str] = found[0]["classes"]
        return classes

    assert asyncio.run(warned()) == [STRANGE]
