"""The default settings, and the environment variables that the seed defines: users depend on both."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from relab.bootstrap import Services
from relab.core.errors import ConfigurationError
from relab.incidents.service import Autonomy, WatchedTarget
from relab.settings import Settings, load_settings
from rig.servers import free_port
from support.lab.cli import Lab

EXIT_UNAVAILABLE = 69
TARGET = "http://127.0.0.1:8011"
ACTIONS = "http://127.0.0.1:9000"


def watched(services: Services) -> WatchedTarget:
    found = services.incidents.watched
    assert found is not None
    return found


def test_no_target_is_watched_by_default() -> None:
    settings = load_settings()

    assert settings.target_api_base_url is None
    assert settings.watched_url is None
    assert settings.serve_only == "all"
    assert load_settings(serve_only="incidents").watched_url == TARGET


def test_shipped_responder_asks_for_approval_before_actions(make_services: Callable[..., Services]) -> None:
    found = watched(make_services(serve_only="incidents"))
    policy, detection = found.settings.policy, found.settings.detection

    assert found.url == TARGET
    assert found.actions_url == ACTIONS
    assert found.name == "127.0.0.1:8011"
    assert found.token is None
    assert policy.autonomy == Autonomy.APPROVE
    assert dict(policy.autonomy_by_class) == {}
    assert policy.autonomy_of("restart") is Autonomy.APPROVE
    assert policy.max_actions_per_incident == 5
    assert policy.max_actions_per_window == 10
    assert policy.max_actions_per_part == 5
    assert policy.action_window_s == 3_600.0
    assert policy.cooldown_s == 30.0
    assert found.settings.poll_interval_s == 30.0
    assert detection.poll_interval_s == 30.0
    assert detection.critical_error_rate_pct == 50.0
    assert detection.slow_response_ms == 1_000.0
    assert found.settings.use_incident_history is True
    assert found.settings.model.when.value == "never"
    assert found.gateway is None


def test_environment_variables_of_the_seed_are_read(
    make_services: Callable[..., Services], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runbooks, vectors = tmp_path / "runbooks", tmp_path / "vectors"
    given = {
        "PORT": "9101",
        "TARGET_API_BASE_URL": "http://127.0.0.1:8111",
        "ACTION_SERVER_URL": "http://127.0.0.1:9100",
        "OPENAI_API_KEY": "a-key",
        "LLM_MODEL": "gpt-4",
        "VECTOR_STORE_PATH": str(vectors),
        "RUNBOOKS_PATH": str(runbooks),
        "POLL_INTERVAL_SECONDS": "12",
        "ANOMALY_THRESHOLD_ERROR_RATE": "20",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    services = make_services()
    settings, found = services.settings, watched(services)

    assert settings.port == 9101
    assert settings.vector_store_path == vectors
    assert settings.llm_model == "gpt-4"
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "a-key"
    assert services.knowledge.folder == runbooks
    assert found.url == "http://127.0.0.1:8111"
    assert found.actions_url == "http://127.0.0.1:9100"
    assert found.settings.poll_interval_s == 12.0
    assert found.settings.detection.critical_error_rate_pct == 20.0
    monkeypatch.setenv("RELAB_ANOMALY_THRESHOLD_ERROR_RATE", "30")
    assert load_settings().anomaly_threshold_error_rate == 30.0, "a name of our own beats it"


def sample(name: str) -> str:
    """Return a valid value of the setting with this name."""
    if name.endswith("url"):
        return "http://127.0.0.1:1"
    return "DEBUG" if name == "log_level" else "12"


@pytest.mark.parametrize("prefix", ["", "RELAB_", "relab_"])
@pytest.mark.parametrize("in_file", [False, True])
def test_each_variable_of_the_seed_is_read_when_no_other_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prefix: str, in_file: bool
) -> None:
    names = [name for name, field in Settings.model_fields.items() if field.validation_alias is not None]
    assert len(names) == 18
    for name in names:
        with monkeypatch.context() as only:
            if in_file:
                (tmp_path / ".env").write_text(f"{prefix}{name.upper()}={sample(name)}\n")
            else:
                only.setenv(f"{prefix}{name.upper()}", sample(name))
            found = getattr(load_settings(tmp_path), name)
        assert str(getattr(found, "get_secret_value", lambda: found)()) in {sample(name), "12.0"}, name  # noqa: B023


@pytest.mark.parametrize("level", ["debug", "Debug", "DEBUG"])
def test_log_level_is_read_in_any_case(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", level)

    assert load_settings().log_level == "DEBUG"


def test_white_space_around_a_url_in_the_settings_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {
        "TARGET_API_BASE_URL": lambda found: found.target_api_base_url,
        "ACTION_SERVER_URL": lambda found: found.action_server_url,
        "QDRANT_URL": lambda found: found.qdrant_url,
        "RELAB_LLM__BASE_URL": lambda found: found.llm.base_url,
        "RELAB_NOTICES__PUBLIC_URL": lambda found: found.notices.public_url,
        "RELAB_NOTICES__PAGERDUTY_URL": lambda found: found.notices.pagerduty_url,
    }
    for name in names:
        monkeypatch.setenv(name, " http://127.0.0.1:1/a\n")

    settings = load_settings()

    assert {name: read(settings) for name, read in names.items()} == dict.fromkeys(names, "http://127.0.0.1:1/a")


def test_url_with_white_space_inside_is_rejected_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAB_LLM__BASE_URL", "http://127.0.0.1:1 /v1")

    with pytest.raises(ConfigurationError, match=r"llm\.base_url: .* without white space"):
        load_settings()


def refused_port(lab: Lab, port: int, *options: str) -> str:
    """Return the error output of `lab serve --only incidents` for a port that is in use."""
    with contextlib.ExitStack() as taken:
        with contextlib.suppress(OSError):
            # A port that another process already uses serves the test as well.
            taken.enter_context(socket.create_server(("127.0.0.1", port)))
        return lab.run("serve", "--only", "incidents", *options, code=EXIT_UNAVAILABLE).err


def test_retention_of_jobs_that_no_time_can_express_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAB_JOBS__DONE_RETENTION_DAYS", "inf")

    with pytest.raises(ConfigurationError, match=r"jobs\.done_retention_days"):
        load_settings()


def test_incidents_only_server_listens_on_9001_unless_port_or_option_is_set(tmp_path: Path) -> None:
    token = {"ACTION_SERVER_TOKEN": "t"}
    (tmp_path / "lab").mkdir()
    one, other = free_port(), free_port()

    assert load_settings().port == 9001
    assert "127.0.0.1 port 9001:" in refused_port(Lab(tmp_path / "lab", token), 9001)
    told = Lab(tmp_path / "lab", {**token, "PORT": str(one)})
    assert f"127.0.0.1 port {one}:" in refused_port(told, one)
    assert f"127.0.0.1 port {other}:" in refused_port(told, other, "--port", str(other))


@pytest.mark.parametrize("name", [".env", "config.toml"])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    # A regular file that not even root can read from its beginning.
    (tmp_path / name).symlink_to("/proc/self/mem")

    with pytest.raises(ConfigurationError, match=r"The settings cannot be read: .*Let this user read"):
        load_settings(tmp_path)


def test_list_that_is_no_json_is_rejected_with_an_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELAB_HTTP__ALLOWED_HOSTS", "relab.internal")

    with pytest.raises(ConfigurationError, match=r"Lists and mappings are JSON, such as RELAB_HTTP__ALLOWED_HOSTS="):
        load_settings(tmp_path)
