"""Runs of scenarios on a chaos server over HTTP: conclusion, rollbacks, interruption, and journal."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from relab.testbed.chaos.models import InjectionPhase
from relab.testbed.models import Addresses
from relab.testbed.scenarios.errors import NoServerError, ScenarioError
from relab.testbed.scenarios.service import Conclusion, ScenarioResult, Section, parse_scenario, run_scenario
from rig.waiting import wait_until
from support.testbed.scenario_worlds import WELL, World, document, drip, post, stop_drip, world


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with world() as made:
        yield made


@pytest.fixture
def here(running: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("WORLD_URL", running.url)
    running.manager.forget()
    running.log.clear()
    return running


class Told:
    """Records the progress lines of a run, and stops the run at the first line that contains `stop_at`."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.lines: list[tuple[Section, str]] = []
        self.stop = threading.Event()
        self._stop_at = stop_at

    def __call__(self, section: Section, told: str) -> None:
        self.lines.append((section, told))
        if self._stop_at is not None and self._stop_at in told:
            self.stop.set()


def run(here: World, told: Told | None = None, *, allow_code: bool = False, **parts: Any) -> ScenarioResult:
    scenario = parse_scenario(json.dumps(document(**parts)), "drip", source="drip", allow_code=allow_code)
    told = told or Told()
    return run_scenario(scenario, Addresses(target=here.url), rate_per_s=0, stop=told.stop, report=told)


def test_run_deviates_and_is_rolled_back_if_the_service_stays_broken(here: World) -> None:
    told = Told()
    outcome = run(here, told)

    assert outcome.conclusion is Conclusion.DEVIATED
    assert outcome.journal["status"] == "completed"
    assert outcome.journal["deviated"] is True
    assert outcome.problems == ()
    assert here.phases() == [InjectionPhase.STOPPED]
    assert told.lines == [
        (Section.BEFORE, "yes"),
        (Section.METHOD, "1 of 1: let it drip"),
        (Section.AFTER, 'no: the house is dry: $.state is ["wet"], and not ["dry"]'),
        (Section.ROLLBACKS, "1 of 1: stop the drip"),
    ]


def test_hypothesis_holds_if_the_service_recovers(here: World) -> None:
    outcome = run(here, method=[drip(), {**stop_drip(), "name": "mend it"}, {"ref": "the house is dry"}])

    assert outcome.conclusion is Conclusion.HELD
    assert [row["activity"]["name"] for row in outcome.journal["run"]] == ["let it drip", "mend it", "the house is dry"]


def test_journal_has_the_format_of_chaostoolkit(here: World) -> None:
    journal = run(here).journal

    assert json.loads(json.dumps(journal)) == journal
    assert journal.keys() - {"relab"} == {
        "chaoslib-version", "platform", "node", "experiment", "start", "end", "duration", "status", "deviated",
        "steady_states", "run", "rollbacks",
    }  # fmt: skip
    assert journal["experiment"] == document()
    (row,) = journal["run"]
    assert row.keys() == {"activity", "output", "start", "end", "duration", "status"}
    assert row["activity"] == drip()
    assert row["output"]["status"] == 201
    assert row["output"]["body"]["fault"] == "drip"
    assert row["status"] == "succeeded"
    assert journal["steady_states"]["during"] == []
    before, after = (journal["steady_states"][when] for when in ("before", "after"))
    assert before["steady_state_met"] is True
    assert after["steady_state_met"] is False
    assert after["probes"][0]["tolerance_met"] is False
    assert [row["output"]["body"]["stopped"][0]["fault"] for row in journal["rollbacks"]] == ["drip"]


def test_method_is_not_run_on_an_unhealthy_target(here: World) -> None:
    here.manager.inject("burst", {})
    outcome = run(here)

    assert outcome.conclusion is Conclusion.UNDECIDED
    assert outcome.journal["status"] == "failed"
    assert outcome.journal["run"] == []
    assert "not in its steady state before" in outcome.problems[0]
    assert len(outcome.journal["rollbacks"]) == 1
    assert here.phases() == [InjectionPhase.ACTIVE]


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        (post("/api/v1/break/thirst"), "There is no fault 'thirst'. One of: drip, burst, flood."),
        (post("/api/v1/break/drip?intensity=2"), "intensity"),
        (post("/api/v1/break/flood"), "there is no control group"),
        ({"type": "http", "url": "http://127.0.0.1:9/nobody", "timeout": 2}, "refused"),
        ({"type": "http", "url": "nowhere", "timeout": 2}, "nowhere"),
    ],
)
def test_failed_action_aborts_and_rolls_back(here: World, provider: dict[str, Any], said: str) -> None:
    wrong = {"type": "action", "name": "do it", "provider": provider}
    outcome = run(here, method=[drip(), wrong, drip()])

    assert outcome.conclusion is Conclusion.UNDECIDED
    assert outcome.journal["status"] == "aborted"
    assert len(outcome.journal["run"]) == 2
    assert "'do it' was not done" in outcome.problems[0]
    assert said in outcome.problems[0]
    assert outcome.journal["steady_states"]["after"] is None
    assert here.phases() == [InjectionPhase.STOPPED]


def test_failed_probe_does_not_abort_the_method(here: World) -> None:
    look = {"type": "probe", "name": "look", "provider": {"type": "http", "url": "http://127.0.0.1:9/", "timeout": 2}}
    outcome = run(here, method=[look])

    assert outcome.conclusion is Conclusion.HELD
    assert outcome.journal["run"][0]["status"] == "failed"
    assert "refused" in outcome.journal["run"][0]["exception"][0]


def test_failed_rollback_is_reported_and_the_others_run(here: World) -> None:
    wrong = {"type": "action", "name": "stop nothing", "provider": post("/api/v1/break/thirst/stop")}
    outcome = run(here, method=[], rollbacks=[wrong, stop_drip()])

    assert outcome.conclusion is Conclusion.UNDECIDED
    assert "The rollback 'stop nothing' was not done" in outcome.problems[0]
    assert [row["output"]["status"] for row in outcome.journal["rollbacks"]] == [404, 200]


def test_rollback_with_an_invalid_time_limit_fails_and_the_others_run(here: World) -> None:
    late = stop_drip()
    late = {**late, "name": "stop late", "provider": {**late["provider"], "timeout": "${wait}"}}
    configuration = {"url": here.url, "wait": "soon"}
    outcome = run(here, configuration=configuration, method=[drip()], rollbacks=[late, stop_drip()])

    assert "timeout: ${wait} is 'soon'" in outcome.problems[-1]
    assert [row["status"] for row in outcome.journal["rollbacks"]] == ["failed", "succeeded"]
    assert here.phases() == [InjectionPhase.STOPPED]


def test_pauses_of_rollbacks_are_kept(here: World) -> None:
    told = Told()
    run(here, told, rollbacks=[{**stop_drip(), "pauses": {"before": 0.01, "after": 0.02}}])

    assert [line for section, line in told.lines if section is Section.ROLLBACKS] == [
        "1 of 1: stop the drip (in 0.01 s)",
        "1 of 1: stop the drip",
        "waiting 0.02 s",
    ]


def test_rollback_with_an_invalid_pause_is_done(here: World) -> None:
    late = {**stop_drip(), "pauses": {"before": "${wait}"}}
    outcome = run(here, configuration={"url": here.url, "wait": "soon"}, rollbacks=[late])

    assert "pauses.before: ${wait} is 'soon'" in outcome.problems[-1]
    assert here.phases() == [InjectionPhase.STOPPED]


class CountedWaits(threading.Event):
    """An event that no thread sets; a wait ends at once, and its seconds are recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return False


def test_pauses_of_the_hypothesis_are_kept(here: World) -> None:
    told, waits = Told(), CountedWaits()
    told.stop = waits
    (probe,) = document()["steady-state-hypothesis"]["probes"]
    hypothesis = {"title": "dry", "probes": [{**probe, "pauses": {"before": 3, "after": 4}}]}
    run(here, told, **{"steady-state-hypothesis": hypothesis, "method": []})

    assert waits.seconds == [3, 4, 3, 4]


def test_run_stopped_during_a_pause_is_rolled_back(here: World) -> None:
    outcome = run(here, Told(stop_at="waiting 3600 s"), method=[drip(pauses={"after": 3_600}), drip()])

    assert outcome.conclusion is Conclusion.INTERRUPTED
    assert outcome.journal["status"] == "interrupted"
    assert len(outcome.journal["run"]) == 1
    assert here.phases() == [InjectionPhase.STOPPED]


def test_run_stopped_before_it_begins_does_nothing(here: World) -> None:
    told = Told()
    told.stop.set()
    outcome = run(here, told)

    assert outcome.conclusion is Conclusion.INTERRUPTED
    assert outcome.journal["run"] == []
    assert here.phases() == []


def test_continuous_strategy_checks_the_steady_state_during_the_method(here: World) -> None:
    told = Told()
    strategy = {"hypothesis": {"strategy": "continuously"}}
    wait = {"type": "probe", "name": "wait", "provider": {"type": "http", "url": "${url}/house"}}

    def is_seen() -> bool:
        return any(section is Section.DURING and line.startswith("no") for section, line in told.lines)

    ended: list[ScenarioResult] = []
    thread = threading.Thread(
        target=lambda: ended.append(run(here, told, runtime=strategy, method=[drip(pauses={"after": 600}), wait]))
    )
    thread.start()
    try:
        wait_until(is_seen, what="the deviation to be seen")
    finally:
        told.stop.set()
        thread.join()

    during = ended[0].journal["steady_states"]["during"]
    assert [state["steady_state_met"] for state in during][-1] is False
    assert ended[0].share_met_during is not None
    assert ended[0].share_met_during < 1


def test_run_waits_for_background_activities_and_aborts_if_one_fails(here: World) -> None:
    wrong = {"type": "action", "name": "do it", "provider": post("/api/v1/break/thirst"), "background": True}
    outcome = run(here, method=[wrong, drip()])

    assert outcome.journal["status"] == "aborted"
    assert {row["activity"]["name"] for row in outcome.journal["run"]} == {"do it", "let it drip"}
    assert here.phases() == [InjectionPhase.STOPPED]


def test_arguments_are_sent_as_a_json_body_or_as_the_query_of_a_get(here: World) -> None:
    given = {"intensity": 0.5, "seed": 3}
    body = post("/api/v1/break/drip", headers={"Content-Type": "application/json"}, arguments=given)
    look = {
        "type": "probe",
        "name": "look",
        "provider": {"type": "http", "url": "${url}/house", "arguments": {"a": "b"}},
    }
    outcome = run(here, method=[drip(provider=body), look])

    assert outcome.journal["run"][0]["output"]["body"]["parameters"].items() >= given.items()
    assert outcome.journal["run"][1]["output"]["body"] == {"state": "wet"}


def test_allowed_code_is_run(here: World) -> None:
    command = {"type": "process", "path": sys.executable, "arguments": ["-c", "print('${url}')"]}
    function = {"type": "python", "module": "operator", "func": "add", "arguments": {}}
    steps = [
        {"type": "probe", "name": "command", "provider": command},
        {"type": "probe", "name": "function", "provider": function},
        {"type": "action", "name": "absent", "provider": {**command, "path": "/nowhere/at/all"}},
    ]
    outcome = run(here, allow_code=True, method=steps)

    rows = outcome.journal["run"]
    assert rows[0]["output"] == {"status": 0, "stdout": f"{here.url}\n", "stderr": ""}
    assert "TypeError" in rows[1]["exception"][0]
    assert "/nowhere/at/all" in outcome.problems[0]


def test_missing_server_is_reported_before_any_action(here: World) -> None:
    with pytest.raises(NoServerError) as caught:
        run(here, configuration={"url": here.url, "chaos_url": "x"})
    assert caught.value.code == "no_server"
    assert "chaos server" in caught.value.message
    assert here.phases() == []


def test_unresolved_variable_is_reported_before_any_action(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_URL")
    with pytest.raises(ScenarioError) as caught:
        run(here)
    assert caught.value.problems[0][0] == "configuration.url"
    assert here.phases() == []


def test_invalid_pause_aborts_before_the_action(here: World) -> None:
    configuration = {"url": here.url, "wait": "soon"}
    outcome = run(here, configuration=configuration, method=[drip(pauses={"after": "${wait}"})])

    assert outcome.journal["status"] == "aborted"
    assert "pauses.after: ${wait} is 'soon'" in outcome.problems[0]
    assert here.phases() == []


def test_method_is_run_without_checks_if_the_hypothesis_is_empty(here: World) -> None:
    parts: dict[str, Any] = {"steady-state-hypothesis": {"title": "nothing is known", "probes": []}}
    outcome = run(here, **parts)

    assert outcome.conclusion is Conclusion.HELD
    assert outcome.journal["steady_states"] == {"before": None, "after": None, "during": []}
    assert WELL["name"] not in json.dumps(outcome.journal["run"])
