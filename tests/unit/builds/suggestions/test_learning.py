"""Verdicts of users raise and lower known failures, but only for lines with the same template."""

from __future__ import annotations

import pytest

from relab.builds.suggestions.learning import WITHHELD_AT, chance_right
from relab.builds.suggestions.models import Examination, FixSuggestion, PastVerdict, SuggestionRequest
from relab.builds.suggestions.reading import parse_failures, shipped_failures
from relab.builds.suggestions.service import answer, examine
from support.builds.logs import recorded

SECTION = "## {title}\n- id: {id}\n- category: licence\n- sign: {sign}\n\n{title}.\n\n"
FAILURES = parse_failures(
    SECTION.format(title="Strong", id="strong", sign="frobnicator has no licence file")
    + SECTION.format(title="Weak", id="weak", sign="error frobnicator has no licence")
    + SECTION.format(title="Feeble", id="feeble", sign="frobnicator")
)
LINE = "error: the frobnicator has no licence file\n"


def examined() -> Examination:
    return examine(SuggestionRequest(log=LINE), FAILURES)


def said(incident: str | None, *, accepted: bool, same: bool = True, times: int = 1) -> list[PastVerdict]:
    return [PastVerdict(incident, accepted, same)] * times


def told(verdicts: list[PastVerdict]) -> FixSuggestion:
    return answer(examined(), verdicts)


@pytest.mark.parametrize(
    ("accepted", "rejected", "chance"), [(0, 0, 3 / 4), (1, 0, 4 / 5), (0, 1, 3 / 5), (0, 2, 1 / 2), (6, 2, 9 / 12)]
)
def test_chance_is_the_mean_of_the_posterior(accepted: int, rejected: int, chance: float) -> None:
    verdicts = [*said("x", accepted=True, times=accepted), *said("x", accepted=False, times=rejected)]

    assert chance_right(verdicts) == pytest.approx(chance)


def test_verdicts_of_other_projects_weigh_less_and_together_at_most_one_own_verdict() -> None:
    one = chance_right(said("x", accepted=False, same=False))
    own = chance_right(said("x", accepted=False))
    many = chance_right(said("x", accepted=False, same=False, times=1_000))

    assert one == pytest.approx(3 / 4.25)
    assert one > own
    assert many == pytest.approx(own)
    assert many > WITHHELD_AT


def test_without_verdicts_the_first_match_is_the_answer() -> None:
    for name in ("python_module", "javac", "pytest_failed", "npm_test"):
        found = examine(SuggestionRequest(log=recorded(name)), shipped_failures())

        assert answer(found).confidence == found.matches[0].confidence
        assert answer(found).incident == found.matches[0].failure.id


def test_rejected_failure_falls_behind_the_next_best_and_an_accepted_one_rises() -> None:
    assert told([]).incident == "strong"
    assert told(said("strong", accepted=False)).incident == "weak"
    assert told(said("weak", accepted=True)).incident == "weak"
    assert told(said("feeble", accepted=True, times=9)).incident == "strong"


def test_rejections_lower_and_acceptances_raise_the_confidence() -> None:
    request = SuggestionRequest(log="/usr/bin/python3: No module named build\nmake: *** [sdist] Error 1\n")
    found = examine(request, shipped_failures())
    confidence = answer(found).confidence
    verdict = "python_module_missing"

    assert answer(found, said(verdict, accepted=False)).confidence < confidence < 1
    assert confidence < answer(found, said(verdict, accepted=True)).confidence <= 1
    assert answer(found, said(verdict, accepted=True)).accepted == 1


def test_repeated_rejection_withholds_a_failure_and_says_so() -> None:
    verdicts = [
        *said("strong", accepted=False, times=2),
        *said("weak", accepted=False, times=3),
        *said("feeble", accepted=False, times=2),
    ]

    offered = told(verdicts[:5])
    withheld = told(verdicts)

    assert offered.incident == "feeble"
    assert not withheld.is_known
    assert withheld.confidence == 0
    assert "'Strong' has these lines, but it was rejected" in withheld.suggestion
    assert (withheld.accepted, withheld.rejected) == (0, 2)
    assert [quote.text for quote in withheld.quotes] == [LINE.strip()]


def test_acceptance_reverses_a_rejection() -> None:
    verdicts = said("strong", accepted=False, times=2)

    assert told(verdicts).incident != "strong"
    assert told([*verdicts, *said("strong", accepted=True, times=9)]).incident == "strong"


def test_verdicts_about_an_abstention_change_no_known_failure() -> None:
    assert told(said(None, accepted=False, times=9)) == told([])
