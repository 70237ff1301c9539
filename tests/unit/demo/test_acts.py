"""The acts of the demo: their selection, and the errors for acts that cannot be played."""

from __future__ import annotations

import importlib.util

import httpx
import pytest

from demo import __main__ as demo
from demo import needs
from demo.broken_shop import Breaker, Crowd, free_base
from relab.testbed.errors import MissingProgramError
from relab.testbed.scoring.observations import ObservedSecond


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Change to an empty folder, in which the demo keeps its files."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def without_a_wheel(monkeypatch):
    """A platform for which one of the shop's libraries has no wheel."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "faiss" else found(name, *more)
    )
    monkeypatch.setattr(needs, "check_platform", lambda: None)


@pytest.mark.usefixtures("without_a_wheel", "stage")
@pytest.mark.parametrize(("required", "code"), [("0", 0), ("1", 1)])
def test_act_that_cannot_be_played_is_an_error(capsys, monkeypatch, required, code):
    monkeypatch.setenv("RELAB_REQUIRE_ALL", required)
    assert demo.main(["incident"]) == code
    told = " ".join(capsys.readouterr().out.split())
    assert "SKIPPED" in told
    assert "not installed: faiss" in told
    assert "What to do: pip install" in told


@pytest.mark.usefixtures("stage")
def test_shop_is_skipped_on_another_system(capsys, monkeypatch):
    monkeypatch.delenv("RELAB_REQUIRE_ALL", raising=False)

    def refuse():
        raise MissingProgramError("A testbed needs Linux.", remedy="Run it in a container.")

    monkeypatch.setattr(needs, "check_platform", refuse)
    assert demo.main(["incident"]) == 0
    assert "A testbed needs Linux." in capsys.readouterr().out


def test_unknown_act_is_rejected(capsys, stage):
    with pytest.raises(SystemExit) as ended:
        demo.main(["encore"])
    assert ended.value.code == 2
    assert "encore" in capsys.readouterr().err
    assert not (stage / ".demo").exists()


def test_share_and_duration_of_bad_service_are_computed():
    crowd, seen = Crowd(), []
    assert crowd.recent_pct() is None
    assert crowd.badly_served_s == 0.0
    crowd.on_second = lambda: seen.append(crowd.recent_pct(1))
    for number, refused in enumerate((0, 10, 5)):
        crowd.show(ObservedSecond(number, number + 1.0, offered=10, refused=refused))
    crowd.show(ObservedSecond(3.0, 3.5, offered=0))
    assert seen == [100.0, 0.0, 50.0, None]
    assert crowd.badly_served_s == pytest.approx(1.5)
    assert crowd.recent_pct(3) == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("phase", "is_there", "told"),
    [
        ("active", False, None),
        ("active", True, "connections still leak"),
        ("active", None, "does not report"),
        # A fault that the chaos server ended was not repaired.
        ("stopped", False, "without a repair"),
        ("expired", False, "without a repair"),
    ],
)
def test_truth_is_read_from_the_chaos_server(phase, is_there, told):
    def answer(request):
        is_asked = request.method == "GET"
        assert request.url.path == ("/api/v1/break/i-1" if is_asked else "/api/v1/break/db_pool")
        return httpx.Response(200, json={"phase": phase}) if is_asked else httpx.Response(201, json={"id": "i-1"})

    class Behind:
        begun = staticmethod(lambda: None)
        is_there = staticmethod(lambda: is_there)

    with httpx.Client(base_url="http://chaos", transport=httpx.MockTransport(answer)) as chaos:
        breaker = Breaker(chaos, Behind())
        breaker.bring_about()
        found = breaker.what_is_left()
    assert found is None if told is None else told in found


def test_shop_ports_are_outside_the_ephemeral_range():
    assert 20_000 <= free_base() <= 31_990
