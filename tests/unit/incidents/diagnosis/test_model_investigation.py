"""The second opinion of a model: a small weight where the rules are unsure, and none where the answer is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from relab.incidents.diagnosis.candidates import UNKNOWN, probability_of_any
from relab.incidents.diagnosis.investigation import InvestigationResult
from relab.incidents.diagnosis.model_answers import MAX_MODEL_FACTOR, MIN_PLAUSIBLE_PROBABILITY
from relab.incidents.diagnosis.model_investigation import InvestigationInput, ModelInvestigator
from relab.incidents.diagnosis.model_prompt import MAX_CAUSES
from relab.incidents.diagnosis.settings import AskWhen, InvestigationSettings
from relab.incidents.models import Snapshot
from relab.incidents.storage.log import IncidentLog
from relab.llm import (
    LlmDisabledError,
    LlmError,
    LlmGateway,
    LlmInvalidOutputError,
    LlmRefusedError,
    LlmUnavailableError,
    ScriptedGateway,
)
from relab.llm.scripted import Scripted
from support.incidents.modelled_cases import DOUBT, SURE, Case, a_log, case, incident_in, named
from support.incidents.runbooks import runbook

NEVER: Mapping[str, Any] = {"when": AskWhen.NEVER}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IncidentLog]:
    with a_log(tmp_path_factory.mktemp("log")) as found:
        yield found


def thought(log: IncidentLog, gateway: LlmGateway, **more: Any) -> InvestigationResult:
    return asyncio.run(case(log, gateway, **more).investigate())


def by_rules(log: IncidentLog, **more: Any) -> InvestigationResult:
    return thought(log, ScriptedGateway([]), **more, **NEVER)


def probability(found: InvestigationResult, cause: str) -> float:
    return next(item.probability for item in found.candidates if item.cause == cause)


def odds(found: InvestigationResult, cause: str) -> float:
    return probability(found, cause) / (1 - probability(found, cause))


def script(*answers: Mapping[str, Any]) -> ScriptedGateway:
    usual = {"cause": UNKNOWN, "probability": 0.5, "evidence_ids": [], "looks": []}
    return ScriptedGateway([{**usual, **answer} for answer in answers])


def test_agreeing_model_confirms_an_uncertain_cause(log: IncidentLog) -> None:
    rules = by_rules(log)
    assert rules.best.cause == "leak"
    found = thought(log, named("leak", "pool.fullest_pct"))
    assert found.best.cause == "leak"
    assert found.is_confirmed is True
    assert rules.best.probability < 0.5 < found.best.probability
    causes = {item.cause for item in found.candidates}
    assert probability_of_any(found.candidates, causes) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("said", [0.0, 0.3, 1.0])
def test_weight_of_the_model_is_bounded(log: IncidentLog, said: float) -> None:
    rules = by_rules(log)
    found = thought(log, named("leak", "pool.fullest_pct", probability=said))
    assert odds(found, "leak") == pytest.approx(odds(rules, "leak") * (1 + (MAX_MODEL_FACTOR - 1) * said))


def test_cause_that_leads_only_by_the_model_is_probed_again(log: IncidentLog) -> None:
    made = case(log, named("spike", "traffic.rps"))
    found = asyncio.run(made.investigate())
    weighed = made.told("model_weighed")
    assert found.best.cause == "spike"
    assert found.is_confirmed is True
    assert made.service.taken[-1] == ("service",)
    # Each weighing of the model's answer is in the timeline, with the evidence.
    assert [event.content["cause"] for event in weighed] == ["spike", "spike"]
    assert next(item.fact for item in found.cited) == "traffic.rps"


def test_cause_that_is_gone_at_the_second_probe_is_not_confirmed(log: IncidentLog) -> None:
    made = case(log, named("spike", "traffic.rps"))
    take = made.service.run

    async def calm(names: Sequence[str]) -> Any:
        # The spike is over once the model has answered.
        if made.told("model_weighed"):
            made.service.now = {**DOUBT, "traffic.rps": 50.0}
        return await take(names)

    made.service.run = calm  # type: ignore[method-assign]
    found = asyncio.run(made.investigate())
    (refused,) = made.told("model_refused")
    assert refused.content == {"refusal": "is_mended", "cause": "spike"}
    assert found.best.cause == "leak"
    assert found.is_confirmed is False


def test_confirmed_cause_needs_no_model_call(log: IncidentLog) -> None:
    model = named("leak", "pool.fullest_pct")
    found = thought(log, model, now=SURE)
    assert found.best.cause == "lock"
    assert model.prompts == []


@pytest.mark.parametrize("says", ["leak", "lock", UNKNOWN])
def test_model_answer_about_a_confirmed_cause_is_recorded_and_changes_nothing(log: IncidentLog, says: str) -> None:
    model = named(says, "pool.fullest_pct", probability=1.0)
    made = case(log, model, now=SURE, when=AskWhen.ALWAYS)
    found = asyncio.run(made.investigate())
    (heard,) = made.told("model_heard")
    rules = by_rules(log, now=SURE)
    assert [(item.cause, item.probability) for item in found.candidates] == [
        (item.cause, item.probability) for item in rules.candidates
    ]
    assert heard.content["cause"] == says
    assert heard.content["by_rules"] == "lock"
    assert ("as the rules do" in heard.message) is (says == "lock")
    assert ("the rules are sure of lock" in heard.message) is (says != "lock")
    assert incident_in(model.prompts[0])["looks"] == {}


def test_requested_probes_are_run_and_the_model_is_called_again(log: IncidentLog) -> None:
    model = script({"looks": ["host", "host", "cache"]}, {"looks": ["search"]}, {"cause": UNKNOWN, "probability": 0.5})
    made = case(log, model)
    asyncio.run(made.investigate())
    assert [event.content["looks"] for event in made.told("model_looks")] == [["host", "cache"], ["search"]]
    assert [item for item in made.service.taken if item in {("host", "cache"), ("search",)}] == [
        ("host", "cache"),
        ("search",),
    ]
    told = [incident_in(prompt) for prompt in model.prompts]
    assert [incident["looks_left"] for incident in told] == [2, 1, 0]
    assert bool(told[0]["looks"]) is True
    assert told[2]["looks"] == {}


def test_model_can_request_a_limited_number_of_probes(log: IncidentLog) -> None:
    model = named("leak", "pool.fullest_pct", probes=["host"])
    found = thought(log, model, max_rounds=1)
    # The last answer counts, and the probes that it requests are not run.
    assert len(model.prompts) == 2
    assert found.best.cause == "leak"
    assert found.best.probability > 0.5


def test_facts_of_requested_probes_are_weighed_by_the_rules(log: IncidentLog) -> None:
    model = script({"looks": ["database.waits"]}, {"cause": UNKNOWN, "probability": 1.0})
    made = case(log, model, now=DOUBT)
    take = made.service.run

    async def later(names: Sequence[str]) -> Any:
        if made.told("model_looks"):
            made.service.now = {**DOUBT, **SURE}
        return await take(names)

    made.service.run = later  # type: ignore[method-assign]
    found = asyncio.run(made.investigate())
    assert made.told("model_weighed") == []
    # The rules are certain now and need no second opinion.
    assert found.best.cause == "lock"
    assert found.is_confirmed is True
    assert found.best.probability > 0.9


REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "a cause of its own": ({"cause": "gremlins", "evidence_ids": ["ev-1"]}, "unknown_cause"),
    "an action for a cause": ({"cause": "restart-database", "evidence_ids": ["ev-1"]}, "unknown_cause"),
    "more than certain": ({"cause": "leak", "probability": 1.5}, "no_probability"),
    "less than nothing": ({"cause": "leak", "probability": -0.1}, "no_probability"),
    "ids that are none": ({"cause": "leak", "evidence_ids": ["ev-1-pool.fullest_pct", "ev-made-up"]}, "unknown_evidence"),
    "no ids": ({"cause": "leak"}, "no_citation"),
    "a look that is none": ({"cause": "leak", "looks": ["restart-database"]}, "unknown_probe"),
    "a request for a look": ({"looks": ["GET http://127.0.0.1/ops/flags"]}, "unknown_probe"),
    "all looks": (
        {"looks": ["service", "pool", "paths", "database.sessions", "database.waits", "cache"]}, "too_many_probes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_invalid_answer_changes_nothing(log: IncidentLog, what: str) -> None:
    answer, refusal = REFUSED[what]
    made = case(log, script(answer))
    found = asyncio.run(made.investigate())
    (told,) = made.told("model_refused")
    assert told.content["refusal"] == refusal
    assert found.candidates == by_rules(log).candidates
    # The model's own words are not repeated anywhere.
    assert "gremlins" not in repr(told)


@pytest.mark.parametrize(
    ("cause", "fact", "refusal"),
    [
        ("leak", "dependency.database", "beside_the_point"),
        ("spike", "pool.fullest_pct", "beside_the_point"),
        ("trifle", "cache.errors", "is_mended"),
        ("lock", "database.waits.lock", "far_fetched"),
    ],
)
def test_cause_against_the_facts_is_not_raised(log: IncidentLog, cause: str, fact: str, refusal: str) -> None:
    made = case(log, named(cause, fact, probability=1.0))
    # The investigation must show the model the evidence that it cites.
    found = asyncio.run(made.investigate())
    (told,) = made.told("model_refused")
    assert told.content == {"refusal": refusal, "cause": cause}
    assert found.candidates == by_rules(log).candidates
    assert refusal != "far_fetched" or probability(found, cause) < MIN_PLAUSIBLE_PROBABILITY


FAILURES: Mapping[str, Exception] = {
    "down": LlmUnavailableError("The model server cannot be reached."),
    "busy": LlmUnavailableError("It answered with HTTP 429.", status=429, retry_after_s=3_600),
    "declines": LlmRefusedError("The model declined to answer."),
    "wrong": LlmInvalidOutputError("The model's answer is not JSON."),
    "none": LlmDisabledError("No language model is configured."),
    "broken": RuntimeError("something that a library raises"),
}


@pytest.mark.parametrize("way", FAILURES)
@pytest.mark.parametrize("at", [1, 2])
def test_failing_model_leaves_the_result_of_the_rules(log: IncidentLog, way: str, at: int) -> None:
    looks = {"cause": UNKNOWN, "probability": 0.5, "evidence_ids": [], "looks": ["host"]}
    replies: list[Scripted] = [looks, FAILURES[way]]
    made = case(log, ScriptedGateway(replies[2 - at :]))
    found = asyncio.run(made.investigate())
    (told,) = made.told("model_failed")
    failure = FAILURES[way]
    assert told.content["outcome"] == (failure.code if isinstance(failure, LlmError) else "llm_unavailable")
    assert told.message.endswith("The result of the rules is used.")
    assert "something that a library raises" not in told.message
    rules = by_rules(log)
    assert [item.cause for item in found.candidates] == [item.cause for item in rules.candidates]
    assert found.best.probability == pytest.approx(rules.best.probability, abs=1e-9)


def test_prompt_contains_the_likely_runbooks_of_many(log: IncidentLog) -> None:
    model = named("leak", "pool.fullest_pct")
    made = case(log, model)
    crowd = Case(
        made.log, made.incident_id, model, made.service, made.settings,
        [*(runbook(f"other_{number}", prior=0.001) for number in range(100)), *made.books],
    )  # fmt: skip
    found = asyncio.run(crowd.investigate())
    causes = [item["cause"] for item in incident_in(model.prompts[0])["causes"]]
    assert len(causes) == 60
    assert {"leak", "spike"} <= set(causes)
    assert found.best.cause == "leak"


def test_repaired_cause_among_many_runbooks_does_not_stop_the_investigation(log: IncidentLog) -> None:
    many = [runbook(f"cause-{number}") for number in range(MAX_CAUSES)]
    made = case(log, named("leak", "pool.fullest_pct"))
    investigator = ModelInvestigator(
        made.service.run,
        [*made.books, *many],
        made.calls(),
        seen=InvestigationInput(mended=frozenset({"lock"})),
        settings=InvestigationSettings(),
        asking=made.settings,
    )

    async def investigate() -> InvestigationResult:
        return await investigator.investigate(await investigator.gather(Snapshot(at_us=1)))

    found = asyncio.run(investigate())

    assert "lock" not in {item.cause for item in found.candidates}
    assert [event.kind for event in made.told()][:2] == ["model_asked", "model_answered"]
