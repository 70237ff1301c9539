"""Find the behaviours of a run: code checks rules with a condition, a language model judges rules with a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from relab.core.clock import Clock
from relab.rca.errors import NoJudgeError
from relab.rca.judge.stage import SentenceJudging, StoredAnswers
from relab.rca.judge_models import SentenceJudgement
from relab.storage import Database
from relab.telemetry.models import AgentRun

if TYPE_CHECKING:
    from relab.rca.behaviours.matching import SeenBehaviour
    from relab.rca.behaviours.rules import BehaviourRule

NO_MODEL: Final = "no language model is configured"
NOT_ASKED: Final = "the language model was not asked, which needs --judge or a judge in the request or settings"


class FoundBehaviours(NamedTuple):
    """The behaviours that a run shows (`seen`), in the order of their rules.

    Some rules describe their behaviour (a pattern in runs) by a sentence, which a language model judges. `judgement`
    names the behaviours that the model judged and those that it did not judge, and has the model's cost; None if no
    rule has a sentence.
    """

    seen: tuple[SeenBehaviour, ...]
    judgement: SentenceJudgement | None


class BehaviourFinder:
    """Finds the behaviours of a run; a rule describes a behaviour by a condition or by a sentence.

    Args:
        judge: asks a language model about the sentences; None if no model is configured.
    """

    def __init__(self, database: Database, clock: Clock, judge: SentenceJudging | None) -> None:
        self._database = database
        self._clock = clock
        self._judge = judge

    def check_model(self) -> None:
        """Check that a language model is configured.

        Raises:
            NoJudgeError: no language model is configured.
        """
        if self._judge is None:
            raise NoJudgeError

    def find(self, rules: Sequence[BehaviourRule], run: AgentRun, *, asks_model: bool) -> FoundBehaviours:
        """Return the behaviours that a run shows according to the given rules.

        If `asks_model` is false, or if no language model is configured, the behaviours whose rule has a sentence are
        not judged.
        """
        from relab.rca.behaviours.matching import ModelOpinion, SeenBehaviour, find_behaviours  # noqa: PLC0415 loads the analysis

        seen = find_behaviours(run, rules)
        sentences = {rule.name: rule.sentence for rule in rules if rule.sentence is not None}
        if not sentences:
            return FoundBehaviours(seen, None)
        if self._judge is None or not asks_model:
            why = NO_MODEL if self._judge is None else NOT_ASKED
            return FoundBehaviours(seen, SentenceJudgement(not_judged=dict.fromkeys(sentences, why)))
        judged = self._judge(sentences, run, StoredAnswers(self._database, self._clock, run.run_id))
        by_name = {each.rule.name: each for each in seen}
        for rule in rules:
            shown = judged.shown.get(rule.name)
            if shown is not None:
                opinion = ModelOpinion(judged.judgement.model, shown.reason)
                by_name[rule.name] = SeenBehaviour(rule, (shown.quotation,), opinion)
        ordered = tuple(by_name[rule.name] for rule in rules if rule.name in by_name)
        return FoundBehaviours(ordered, judged.judgement)
