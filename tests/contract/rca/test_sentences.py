"""Behaviours that a sentence describes: when an analysis lets a model judge them, and how it uses the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from relab.bootstrap import Services, build
from relab.core.clock import format_time
from relab.incidents.notices.outbox import Outbox
from relab.jobs.models import Lane
from relab.rca.errors import NoJudgeError
from relab.rca.models import JudgeMethod, Report
from relab.rca.service import NOTICE_JOB
from relab.telemetry.ingest.reading import check_agent_run
from relab.telemetry.models import RunFilter
from support.api.client import running_api
from support.clocks import MovableClock
from support.rca.judges import DENIES, Answer, SentenceModel, StepJudge, says
from support.telemetry.runs import minimal_run, step

RULES = """
version: 1
behaviours:
  - name: apologised
    description: The agent apologised
    when: {step: {output: '(?i)sorry'}}
  - name: blames-user
    description: The agent blames the user
    sentence: The agent says that a problem is the fault of the user.
    notify: true
"""
BLAME = "It is your own fault. Sorry."


class BothJudges:
    """A model that answers prompts about sentences with `answer`, and all other prompts with step 0."""

    def __init__(self, answer: Answer | str) -> None:
        self.sentences = SentenceModel(lambda *_: answer)
        self.steps = StepJudge(0)

    def complete(self, prompt: Any, schema: Any, **options: Any) -> Any:
        """Return the answer of the judge that the prompt is for."""
        judge = self.sentences if schema.__name__ == "SentenceAnswer" else self.steps
        return judge.complete(prompt, schema, **options)


@pytest.fixture
def install(services: Services) -> Iterator[Callable[..., Services]]:
    """Return a function that builds services with rules and a model that gives one answer; None means no model."""
    services.settings.home.mkdir(exist_ok=True)
    (services.settings.home / "rules.yaml").write_text(RULES)
    with ExitStack() as stack:

        def make(answer: Answer | str | None) -> Services:
            made = build(
                services.settings, clock=MovableClock(), llm=BothJudges(answer) if answer is not None else None
            )
            stack.callback(made.close)
            return made

        yield make


def post(services: Services, run_id: str, text: str = BLAME) -> None:
    now = format_time(services.clock.now_us())
    steps = [step("s0", output_summary=text, started_at=now)]
    body = minimal_run(run_id, status="failure", started_at=now, ended_at=now, steps=steps)
    services.telemetry.ingest(check_agent_run(body))


def work(services: Services) -> None:
    runner = services.runner()
    while runner.run_next():
        pass


def analysed(services: Services, run_id: str, judge: JudgeMethod | None = None, **options: Any) -> Report:
    receipt = services.rca.request(run_id, judge=judge, **options)
    services.rca.analyze(receipt.rca_run_id)
    work(services)
    report = services.rca.get(receipt.rca_run_id).report
    assert report is not None
    return report


def marked(services: Services, behaviour: str = "blames-user") -> list[str]:
    return [run.run_id for run in services.telemetry.list_runs(RunFilter(behaviour=behaviour)).items]


def test_judged_sentence_is_a_finding_with_evidence_a_filter_and_a_metric(install: Callable[..., Services]) -> None:
    here = install(says("your own fault"))
    post(here, "a")
    with running_api(here) as client:
        rca_run_id = client.post("/agent-runs/a/rca-runs?judge=all_at_once").json()["rca_run_id"]
        work(here)
        report = client.get(f"/agent-runs/rca-runs/{rca_run_id}").json()["report"]
        listed = client.get("/agent-runs?behaviour=blames-user").json()["items"]
        metrics = client.get("/metrics").text
    index = {item["evidence_id"]: item["snippet"] for item in report["evidence_index"]}
    found = {each["behaviour"]: each for each in report["behaviours"]}

    assert list(found) == ["apologised", "blames-user"]
    assert [index[each] for each in found["blames-user"]["evidence_ids"]] == [BLAME]
    assert {name: each["by_model"] for name, each in found.items()} == {"apologised": False, "blames-user": True}
    assert report["sentences"]["judged"] == ["blames-user"]
    assert [run["run_id"] for run in listed] == ["a"]
    assert 'relab_run_behaviours{behaviour="blames-user"} 1.0' in metrics
    note = here.rca.notes.of(rca_run_id)
    assert note.behaviours == ("The agent apologised", "The agent blames the user (opinion of the model)")


def test_model_is_not_asked_unless_the_analysis_wants_a_judge(install: Callable[..., Services]) -> None:
    here = install(says("your own fault"))
    post(here, "a")
    report = analysed(here, "a")
    note = here.rca.notes.of(here.rca.list_for_run("a")[0].rca_run_id)

    assert [found.behaviour for found in report.behaviours] == ["apologised"]
    assert report.sentences is not None
    assert list(report.sentences.not_judged) == ["blames-user"]
    assert report.sentences.calls == 0
    assert note.not_judged == (
        "blames-user: the language model was not asked, which needs --judge or a judge in the request or settings",
    )


def test_report_without_a_model_states_that_no_sentence_was_judged(install: Callable[..., Services]) -> None:
    here = install(None)
    post(here, "a")
    report = analysed(here, "a")
    scanner = here.rca.behaviours

    assert report.sentences is not None
    assert report.sentences.not_judged == {"blames-user": "no language model is configured"}
    with pytest.raises(NoJudgeError):
        list(scanner.scan(scanner.book.rules(), ["a"], asks_model=True))


def test_model_is_not_asked_on_arrival_nor_by_a_batch(install: Callable[..., Services]) -> None:
    here = install(says("your own fault"))
    post(here, "a")
    here.rca.analyze_arrivals(quiet_s=0.0, max_waiting=10)
    here.rca.request_batch({"a": here.telemetry.get_content("a")}, force=True)
    here.telemetry.ingest(check_agent_run(minimal_run("good", answer=BLAME)))
    here.rca.arrivals.queue_search(quiet_s=0.0, is_on=True)
    work(here)
    reports = [here.rca.get(each.rca_run_id).report for each in here.rca.list_for_run("a")]

    assert [report and report.sentences and report.sentences.judged for report in reports] == [()] * len(reports)
    assert marked(here) == []


@pytest.mark.parametrize("answer", ["yes", says("never said by it")], ids=["prose", "invented quotation"])
def test_wrong_answer_fails_no_analysis(install: Callable[..., Services], answer: Answer | str) -> None:
    here = install(answer)
    post(here, "a")
    report = analysed(here, "a", JudgeMethod.ALL_AT_ONCE)

    assert [found.behaviour for found in report.behaviours] == ["apologised"]
    assert report.sentences is not None
    assert sum(report.sentences.dropped.values()) == 1
    assert marked(here) == []


def test_mark_stays_while_a_search_does_not_judge_and_goes_when_the_model_denies(
    install: Callable[..., Services],
) -> None:
    here, denier = install(says("your own fault")), install(DENIES)
    post(here, "a")
    analysed(here, "a", JudgeMethod.ALL_AT_ONCE)
    analysed(here, "a", JudgeMethod.OFF, force=True)
    assert marked(here) == ["a"]

    rules = here.rca.behaviours.book.rules()
    for _, scanned in denier.rca.behaviours.scan(rules, ["a"]):
        denier.rca.behaviours.mark(scanned)
    assert marked(here) == ["a"]

    post(here, "a", "It is your own fault.")
    assert marked(here) == []
    for _, scanned in here.rca.behaviours.scan(rules, ["a"]):
        here.rca.behaviours.mark(scanned)
    assert marked(here) == []


def test_stored_answer_is_used_again(install: Callable[..., Services]) -> None:
    here = install(says("your own fault"))
    post(here, "a")
    analysed(here, "a", JudgeMethod.ALL_AT_ONCE)
    again = analysed(here, "a", JudgeMethod.ALL_AT_ONCE, force=True)

    assert again.sentences is not None
    assert (again.sentences.calls, again.sentences.cached_answers) == (0, 1)
    assert [found.behaviour for found in again.behaviours if found.by_model] == ["blames-user"]


def test_judged_sentence_sends_a_notice_in_its_window(install: Callable[..., Services]) -> None:
    here = install(says("your own fault"))
    Outbox(here.database).set_up("slack", at_us=0)
    for run_id in ("a", "b"):
        post(here, run_id)
        receipt = here.rca.request(run_id, judge=JudgeMethod.ALL_AT_ONCE)
        here.rca.analyze(receipt.rca_run_id)

    assert here.queue.count_unfinished(NOTICE_JOB, Lane.BACKGROUND) == 1
