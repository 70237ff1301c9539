"""The first minutes of a responder: wrong tokens, a missing runbook folder, and observing without a token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rig.waiting import wait_until
from support.lab.cli import Lab
from support.lab.process import LabProcess
from support.testbed.action_servers import NOWHERE, RealServer, real_server

EXIT_UNAVAILABLE = 69
UNKNOWN = "a-token-that-the-server-does-not-know"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with real_server(tmp_path_factory.mktemp("actions")) as found:
        yield found


@pytest.fixture(scope="module")
def serving(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    """`lab serve --only incidents` with a wrong token and a missing runbook folder."""
    folder = tmp_path_factory.mktemp("first")
    settings = {
        "TARGET_API_BASE_URL": NOWHERE,
        "ACTION_SERVER_URL": server.url,
        "ACTION_SERVER_TOKEN": UNKNOWN,
        "RUNBOOKS_PATH": str(folder / "data" / "runbooks"),
    }
    with LabProcess.serve(folder / "home", "--only", "incidents", settings=settings) as found:
        yield found


def test_a_wrong_token_for_the_action_server_is_logged_with_the_remedy(serving: LabProcess) -> None:
    log = wait_until(
        lambda: serving.log() if "action_server_unusable" in serving.log() else None, what="a warning in the log"
    )
    assert "The action server answered 401" in log
    assert "Give the responder a token with this permission." in log
    assert UNKNOWN not in log


def test_missing_runbook_folder_is_created(serving: LabProcess) -> None:
    assert (serving.home.parent / "data" / "runbooks").is_dir()
    assert "runbooks_folder_created" in serving.log()


def test_the_agent_server_answers_the_health_path_of_the_seed(serving: LabProcess) -> None:
    assert httpx.get(f"{serving.url}/health", timeout=30, verify=False).json()["status"] == "ok"


def test_the_doctor_names_the_target_the_action_server_and_the_notices(server: RealServer, tmp_path: Path) -> None:
    def checks(token: str | None, **more: str) -> dict[str, tuple[str, str | None]]:
        settings = {"TARGET_API_BASE_URL": NOWHERE, "ACTION_SERVER_URL": server.url, **more}
        lab = Lab(tmp_path, settings if token is None else {**settings, "ACTION_SERVER_TOKEN": token})
        found = lab.run("doctor", "--json", code=EXIT_UNAVAILABLE).json["checks"]
        return {each["name"]: (each["state"], each["remedy"]) for each in found}

    wrong = checks("wrong")
    assert wrong["target"][0] == "problem"
    assert "TARGET_API_BASE_URL" in str(wrong["target"][1])
    assert wrong["action server"] == ("problem", "Give the responder a token with this permission.")
    assert wrong["notices"][0] == "note"
    assert checks(server.tokens["responder"])["action server"] == ("ok", None)
    observing = checks(None, RELAB_INCIDENTS__AUTONOMY="observe")
    assert observing["action server"][0] == "note"


@pytest.mark.full
def test_observing_needs_no_token_and_opens_incidents(tmp_path: Path) -> None:
    settings = {"TARGET_API_BASE_URL": NOWHERE, "POLL_INTERVAL_SECONDS": "0.5", "ACTION_SERVER_URL": NOWHERE}
    with LabProcess.serve(
        tmp_path / "home", "--only", "incidents", "--autonomy", "observe", settings=settings
    ) as serving:
        status = wait_until(
            lambda: (
                (found := httpx.get(f"{serving.url}/agent/status", timeout=30, verify=False).json())["incident"]
                and found
            ),
            what="an incident",
        )
    assert status["autonomy"] == "observe"
    assert "ACTION_SERVER_TOKEN is not set: the responder" not in serving.log()


def test_more_than_observing_needs_a_token(tmp_path: Path) -> None:
    settings = {"TARGET_API_BASE_URL": NOWHERE, "ACTION_SERVER_URL": NOWHERE}
    refused = Lab(tmp_path, settings).run("serve", "--only", "incidents", "--port", "0", code=EXIT_UNAVAILABLE).err
    assert "ACTION_SERVER_TOKEN" in refused
    assert "RELAB_INCIDENTS__AUTONOMY=observe" in refused
