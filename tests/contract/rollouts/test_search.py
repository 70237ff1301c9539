"""Searches on a small real service: only a confirmed candidate is applied, and an interrupted search continues."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from relab.bootstrap import Services, build
from relab.core.errors import RelabError, UnavailableError
from relab.rollouts.errors import ChangesForbiddenError, FlagsNotAppliedError, PlanInvalidError
from relab.rollouts.execution.progress import RolloutProgress
from relab.rollouts.search.service import RolloutSearch, SearchResult, new_search, read_result, read_search
from relab.settings import load_settings
from relab.stats.verdicts import Verdict
from support.lab.process import SETTING_NAMES
from support.rollouts.small_service import SmallService, small_service
from support.storage.migrated import migrate

BEFORE = 10
BEST = 40
LIMITS = [10, 20, 40, 80]


class Lab:
    """Services of one installation, and a service whose figure depends on one limit."""

    def __init__(self, services: Services, service: SmallService, folder: Path) -> None:
        self.services = services
        self.service = service
        self.folder = folder
        self.stop = threading.Event()
        self.progress: list[RolloutProgress] = []
        self.on_progress: Callable[[RolloutProgress], None] = self.progress.append
        self.p95_by_limit = {10: 100.0, 20: 80.0, BEST: 50.0, 80: 130.0}
        reads = count()
        # The service reports the figure, because latencies of such short windows vary too much on a busy machine.
        service.figures = lambda _path: {"p95": self.p95_by_limit[service.limit] + next(reads) % 3}

    def document(self, **fields: Any) -> dict[str, Any]:
        """Return a search file over four limits."""
        mix = self.folder / "mix.yaml"
        mix.write_text("requests:\n  - {name: work, path: /work}\n")
        flags = {
            "kind": "http",
            "url": f"{self.service.url}/limit",
            "body": {"limits": {"max": "$value"}},
            "pointer": "/state/max",
            "b": 20,
        }
        metric = {"kind": "json", "url": f"{self.service.url}/figures", "pointer": "/p95"}
        measured = {"qps": 60, "window_sec": 0.1, "warmup_sec": 0.0, "mix": str(mix), "rounds": 7}
        plan = {
            "base_url": self.service.url,
            "timeout": 2,
            "experiment": measured,
            "thresholds": {"max_error_rate": 9},
            "subject": {"flags": flags, "metric": metric},
        }
        return {
            "plan": plan,
            "parameters": {"subject.flags.b": {"values": LIMITS}},
            "method": "grid",
            "screening": {"rounds": 2},
            **fields,
        }

    def search(self, **fields: Any) -> SearchResult:
        path = self.folder / "search.yaml"
        path.write_text(yaml.safe_dump(self.document(**fields)))
        return new_search(read_search(path))

    def run(self, search: SearchResult) -> SearchResult:
        runner = RolloutSearch(self.services.rollouts, "tester", self.stop, self.on_progress, self.folder)
        return runner.run(search)

    def saved(self) -> Path:
        (path,) = (self.folder / "reports").glob("search-*/search.json")
        return path


@pytest.fixture
def lab(make_services: Callable[..., Services], tmp_path: Path) -> Iterator[Lab]:
    with small_service() as service:
        yield Lab(make_services(), service, tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, SearchResult]]:
    """A search that has ended, with its installation; tests only read."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("RELAB_") or name in SETTING_NAMES]:
            environment.delenv(name)
        services = build(load_settings(folder / "home"))
    migrate(services.database)
    with small_service() as service:
        lab = Lab(services, service, folder)
        yield lab, lab.run(lab.search())
    services.close()


def test_best_candidate_is_confirmed_by_new_windows_and_applied(lab: Lab) -> None:
    found = lab.run(lab.search())

    assert [one.values["subject.flags.b"] for one in found.candidates] == LIMITS
    (confirmation,) = found.confirmations
    assert confirmation.candidate == 1 + LIMITS.index(BEST)
    assert confirmation.verdict is Verdict.PASS
    assert found.chosen == confirmation.candidate
    assert found.finished
    assert lab.service.limit == BEST
    confirming = lab.services.rollouts.get(confirmation.rollout_id)
    assert len(confirming.windows) == 14
    assert confirming.rollback_command is not None
    lab.services.rollouts.roll_back(confirmation.rollout_id, by="ada")
    assert lab.service.limit == BEFORE


def test_screening_applies_nothing(finished: tuple[Lab, SearchResult]) -> None:
    lab, found = finished

    screenings = [lab.services.rollouts.get(one.rollout_id or "") for one in found.candidates]
    assert [len(record.windows) for record in screenings] == [4] * 4
    assert all(record.judgement is not None for record in screenings)
    assert not any(record.application is None or record.application.applied for record in screenings)
    assert all(record.flags_restored for record in screenings)


def test_continued_search_finds_its_rollouts_after_the_clock_was_set_back(lab: Lab) -> None:
    later = lab.search().model_copy(update={"search_id": "0fffffff-0000-7000-8000-000000000000"})
    first = lab.run(later)
    lab.progress.clear()
    again = lab.run(read_result(lab.saved()))

    assert lab.progress == []
    assert again.confirmations == first.confirmations
    assert again.chosen == first.chosen


def test_search_without_a_better_candidate_confirms_none(lab: Lab) -> None:
    lab.p95_by_limit = dict.fromkeys(LIMITS, 100.0)

    found = lab.run(lab.search())

    assert found.confirmations == ()
    assert found.chosen is None
    assert found.finished
    assert lab.service.limit == BEFORE


def test_confirmation_that_fails_applies_nothing_and_the_next_best_is_confirmed(lab: Lab) -> None:
    def disappoint(progress: RolloutProgress) -> None:
        if "confirming b=40" in progress.message:
            lab.p95_by_limit[BEST] = 100.0

    lab.on_progress = disappoint

    found = lab.run(lab.search(confirmations=2))

    assert [(one.candidate, one.applied) for one in found.confirmations] == [(3, False), (2, True)]
    assert lab.service.limit == 20
    shares = [lab.services.rollouts.get(one.rollout_id).plan.alpha_share for one in found.confirmations]
    assert shares == [0.5, 0.5]
    effect = lab.services.rollouts.get(found.confirmations[1].rollout_id).judgement
    assert effect is not None
    assert effect.delta_p95 is not None
    assert effect.delta_p95.level == pytest.approx(0.995)


def test_stopped_search_continues_without_repeating_candidates(lab: Lab) -> None:
    def stop_in_third(progress: RolloutProgress) -> None:
        if "candidate 3" in progress.message and progress.windows_done:
            lab.stop.set()

    lab.on_progress = stop_in_third
    stopped = lab.run(lab.search())
    assert len(stopped.candidates) == 2
    assert not stopped.finished
    assert lab.service.limit == BEFORE

    lab.stop.clear()
    lab.on_progress = lab.progress.append
    found = lab.run(read_result(lab.saved()))

    assert found.finished
    assert found.search_id == stopped.search_id
    assert found.candidates[:2] == stopped.candidates
    assert not any("candidate 2" in progress.message for progress in lab.progress)
    assert lab.service.limit == BEST


@pytest.mark.parametrize(
    ("status", "error"),
    [(503, UnavailableError), pytest.param(401, ChangesForbiddenError, marks=pytest.mark.full)],
)
def test_search_that_lost_its_target_continues_from_its_stored_rollouts(
    lab: Lab, status: int, error: type[RelabError]
) -> None:
    def break_second(progress: RolloutProgress) -> None:
        lab.service.change_status = status if "candidate 2" in progress.message else None

    lab.on_progress = break_second
    with pytest.raises(error):
        lab.run(lab.search())

    lab.service.change_status = None
    lab.on_progress = lab.progress.append
    found = lab.run(read_result(lab.saved()))

    assert len(found.candidates) == 4
    assert lab.service.limit == BEST


def test_candidate_whose_value_the_service_reduces_is_not_chosen(lab: Lab) -> None:
    lab.service.max_limit = 30
    lab.p95_by_limit[30] = 10.0

    found = lab.run(lab.search(parameters={"subject.flags.b": {"values": [20, 40]}}))

    measured, reduced = found.candidates
    assert measured.problem is None
    assert reduced.rollout_id is None
    assert reduced.problem is not None
    assert "have other values (the value is 30, not 40)" in reduced.problem
    assert found.chosen == measured.number
    assert lab.service.limit == 20


def test_search_ends_if_the_flags_of_a_candidate_cannot_be_restored(lab: Lab) -> None:
    lab.service.max_limit = 30
    lab.p95_by_limit |= {20: 130.0, 30: 130.0}

    def forget_restorations() -> None:
        lab.service.forgets = lab.service.limit == 30

    lab.service.on_request = forget_restorations

    with pytest.raises(FlagsNotAppliedError, match="the value is 30, not 10"):
        lab.run(lab.search(parameters={"subject.flags.b": {"values": [20, 40]}}))

    assert not read_result(lab.saved()).finished
    assert lab.service.limit == 30


def test_finished_search_is_not_repeated(finished: tuple[Lab, SearchResult]) -> None:
    lab, first = finished
    rollouts = len(lab.services.rollouts.list_rollouts().items)

    assert lab.run(read_result(lab.saved())) == first
    assert len(lab.services.rollouts.list_rollouts().items) == rollouts


def test_time_budget_ends_the_screening(lab: Lab) -> None:
    found = lab.run(lab.search(screening={"rounds": 2, "time_budget": 0.01}))

    assert len(found.candidates) == 1


def test_bayesian_search_proposes_from_the_results(lab: Lab) -> None:
    found = lab.run(lab.search(method="bayesian", candidates=3))

    assert len(found.candidates) == 3
    assert len({str(one.values) for one in found.candidates}) == 3


def test_report_shows_candidates_and_the_chosen_one(finished: tuple[Lab, SearchResult]) -> None:
    lab, found = finished

    text = lab.saved().with_name("search.txt").read_text()
    assert f"* {found.chosen}: b=40" in text
    assert "PASS, in force" in text
    page = lab.saved().with_name("search.html").read_text()
    assert "chosen, in force" in page
    assert "<script>" not in page.partition("</main>")[0]
    assert '"state":"chosen"' in page


def test_check_changes_nothing(lab: Lab) -> None:
    search = lab.search()
    runner = RolloutSearch(lab.services.rollouts, "tester", lab.stop, lab.on_progress, lab.folder)

    assert runner.check(search).message == "The target is healthy."
    assert lab.service.limit_version == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parameters": {"experiment.qps": {"values": [1]}}}, "experiment.qps does not describe arm B"),
        ({"parameters": {"subject.flags.b": {"low": 3}}}, "needs either `values`, or `low` and `high`"),
        ({"parameters": {"subject.flags.b": {"low": 3, "high": 2}}}, "must be below high"),
        ({"parameters": {"subject.flags.b": {"low": 0, "high": 2, "scale": "log"}}}, "needs low above 0"),
        ({"parameters": {"subject.flags.b": {"values": [1], "points": 3}}}, "points has no effect"),
        ({"candidates": 3}, "the grid has 4 candidates"),
        ({"screening": {"rounds": 7}}, "less than or equal to 6"),
        ({"plan": {"policy": "seed"}}, "plan.policy must be statistical"),
        ({"plan": {"experiment": {"rounds": 4}}}, "can never pass"),
        ({"knob": 1}, "unknown field"),
    ],
)
def test_search_file_that_cannot_be_used_is_rejected_by_name(lab: Lab, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanInvalidError, match=message):
        lab.search(**fields)
