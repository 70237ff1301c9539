"""The second opinion of a model in the response graph: its nodes, settings and cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from relab.bootstrap import Services
from relab.core.clock import SystemClock
from relab.incidents.actions.policy import Policy
from relab.incidents.detection.baseline import Baseline
from relab.incidents.diagnosis.model_investigation import ModelInvestigator
from relab.incidents.diagnosis.settings import AskWhen, ModelSettings
from relab.incidents.models import Snapshot
from relab.incidents.polling.feed import PollFeed
from relab.incidents.response.assessment_nodes import AssessmentNodes
from relab.incidents.response.context import PollState, ResponseContext
from relab.incidents.response.state import IncidentState, dump_poll
from relab.incidents.settings import settings_for
from relab.incidents.storage.log import IncidentLog
from relab.knowledge.service import KnowledgeService
from relab.knowledge.writing import write_runbook
from relab.llm import LlmGateway, LlmUnavailableError, ScriptedGateway
from relab.storage import Database
from support.incidents.modelled_cases import BOOKS, DOUBT, Case, Service, case, named
from support.storage.migrated import migrate

TARGET = "http://127.0.0.1:8011"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database.open(f"sqlite:///{tmp_path / 'relab.db'}")
    migrate(found)
    yield found
    found.close()


def world_of(
    database: Database, folder: Path, gateway: LlmGateway | None, when: AskWhen = AskWhen.UNSURE
) -> ResponseContext:
    """Return a response context for a service whose cause the rules cannot decide."""
    settings = settings_for(1.0, policy=Policy(), model=ModelSettings(when=when))
    knowledge = KnowledgeService(database, folder=None, home_folder=folder)
    return ResponseContext(
        "shop",
        PollState(PollFeed(), Baseline()),
        cast("Any", Service(DOUBT)),
        cast("Any", None),
        knowledge,
        IncidentLog(database),
        SystemClock(),
        settings,
        gateway=gateway,
    )


def responded(world: ResponseContext, made: Case) -> IncidentState:
    """Run the diagnosing nodes, the last one twice as after a kill, and return the state."""
    nodes = AssessmentNodes(world)

    async def go() -> IncidentState:
        state: IncidentState = {"incident_id": made.incident_id, "symptoms": dump_poll(Snapshot(at_us=1))}
        for node in (nodes.gather, nodes.diagnose, nodes.investigate, nodes.investigate):
            state = {**state, **await node(state)}
        return state

    return asyncio.run(go())


def test_model_call_is_in_the_timeline_before_the_diagnosis(database: Database, tmp_path: Path) -> None:
    gateway = named("unknown")
    world = world_of(database, tmp_path / "runbooks", gateway)
    made = case(world.log, gateway)
    state = responded(world, made)
    kinds = [event.kind for event in world.log.read_after(made.incident_id)]
    assert kinds.index("model_asked") < kinds.index("diagnosed")
    # The node ran twice and called the model each time, so both calls are counted.
    assert asyncio.run(made.calls().spending()).calls == len(gateway.prompts) == 2
    assert sum(item["probability"] for item in state["candidates"]) == pytest.approx(1.0)


def test_failing_model_does_not_fail_the_node(database: Database, tmp_path: Path) -> None:
    down = [LlmUnavailableError("It is down.")] * 2
    world = world_of(database, tmp_path / "runbooks", ScriptedGateway(down))
    made = case(world.log, ScriptedGateway([]))
    state = responded(world, made)
    alone = world_of(database, tmp_path / "runbooks", None)
    rules = responded(alone, case(alone.log, ScriptedGateway([])))
    assert state["diagnosis"] == rules["diagnosis"]
    assert state["confidence"] == rules["confidence"]


@pytest.mark.parametrize(
    ("has_model", "when", "asks"),
    [(True, AskWhen.UNSURE, True), (True, AskWhen.NEVER, False), (False, AskWhen.ALWAYS, False)],
)
def test_model_is_not_called_by_default(
    database: Database, tmp_path: Path, has_model: bool, when: AskWhen, asks: bool
) -> None:
    world = world_of(database, tmp_path, ScriptedGateway([]) if has_model else None, when)
    found = asyncio.run(world.investigator("incident", {}))
    assert isinstance(found, ModelInvestigator) is asks


def test_model_may_name_causes_of_shipped_and_own_runbooks(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "leak.md").write_text(write_runbook(replace(BOOKS[0], cause="leak_of_ours")))
    seen: list[set[str]] = []

    def think(incident: dict[str, Any]) -> dict[str, Any]:
        seen.append({item["cause"] for item in incident["causes"]})
        return {"cause": "unknown", "probability": 0.1, "evidence_ids": [], "looks": []}

    gateway = named("unknown")
    gateway.think = think
    world = world_of(database, folder, gateway)
    responded(world, case(world.log, gateway))
    assert {"leak_of_ours", "connection_pool_leak"} <= seen[0]


def test_api_key_alone_does_not_enable_the_model(make_services: Callable[..., Services]) -> None:
    services = make_services(target_api_base_url=TARGET, openai_api_key="sk-lies-about")
    watched = services.incidents.watched
    assert watched is not None
    assert watched.gateway is None
    assert watched.settings.model.when == AskWhen.NEVER


def test_second_opinion_is_opt_in_and_its_cost_reported(make_services: Callable[..., Services]) -> None:
    services = make_services(
        target_api_base_url=TARGET,
        llm={
            "base_url": "http://127.0.0.1:1/v1",
            "timeout_s": 7,
            "temperature": "default",
            "output_method": "json_mode",
        },
        incidents={
            "ask_model": "unsure",
            "max_model_calls_per_incident": 3,
            "max_model_tokens_per_incident": 50_000,
            "max_model_time_per_incident_s": 30,
        },
    )
    watched = services.incidents.watched
    assert watched is not None
    assert watched.gateway is not None
    wanted = ModelSettings(when=AskWhen.UNSURE, max_calls=3, max_tokens=50_000, max_total_s=30, call_timeout_s=7)
    assert watched.settings.model == wanted
    assert services.incidents.status().cost_usd == 0.0


def test_second_opinion_without_a_model_uses_the_rules(make_services: Callable[..., Services]) -> None:
    services = make_services(target_api_base_url=TARGET, incidents={"ask_model": "always"})
    watched = services.incidents.watched
    assert watched is not None
    assert watched.gateway is None


def test_llm_model_variable_sets_the_model(
    make_services: Callable[..., Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_MODEL", "gpt-4")
    assert make_services().settings.llm_model == "gpt-4"
