"""Investigate an incident: choose the next probes, and stop when one cause is sure enough to act on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from relab.incidents.diagnosis.candidates import UNKNOWN, Candidate
from relab.incidents.diagnosis.onset import ONSET
from relab.incidents.diagnosis.settings import InvestigationSettings
from relab.incidents.models import Snapshot
from relab.incidents.probes.catalogue import PROBES, probes_for
from relab.incidents.probes.models import ProbeEvidence, ProbeResult
from relab.incidents.probes.service_health import relative_facts
from relab.knowledge.models import FactValue, Runbook

if TYPE_CHECKING:
    from relab.incidents.diagnosis.inference import Diagnosis

RunProbes = Callable[[Sequence[str]], Awaitable[ProbeResult]]
"""Runs the probes with these names at the same time."""

FIRST_PROBES: Final = ("service", "pool", "logs", "settings.history")
"""The probes that are run first, as an engineer on call would; each is one short request."""
_PROBABLE: Final = 0.5


@dataclass(frozen=True, slots=True)
class KnownFacts:
    """The facts (named values, such as `flags.version`) that probes and polls have found so far in an incident.

    Attributes:
        facts: the latest value of each fact, by name.
        evidence: the latest evidence (a citable finding of a probe) for each fact, by name.
        looked: the names of the probes that were run, in the order of their first run.
    """

    facts: Mapping[str, FactValue] = field(default_factory=dict)
    evidence: Mapping[str, ProbeEvidence] = field(default_factory=dict)
    looked: tuple[str, ...] = ()

    def with_probes(self, names: Iterable[str], found: ProbeResult) -> KnownFacts:
        """Return a copy with the facts that probes found now.

        Facts that these probes can find, and did not find now, are removed with their evidence.

        Args:
            names: the names of the probes that were run.
            found: the facts and the evidence that the probes gave.
        """
        taken = tuple(dict.fromkeys(names))
        gone = {fact for name in taken for fact in PROBES[name].facts} - found.facts.keys()
        facts = {fact: value for fact, value in self.facts.items() if fact not in gone} | dict(found.facts)
        evidence = {fact: item for fact, item in self.evidence.items() if fact not in gone}
        evidence |= {item.fact: item for item in found.evidence}
        return KnownFacts(facts, evidence, (*self.looked, *(name for name in taken if name not in self.looked)))


@dataclass(frozen=True, slots=True)
class InvestigationResult:
    """The result of an investigation.

    Attributes:
        known: all facts about the incident that are known after the investigation.
        candidates: the causes, the most probable first, without repaired causes that are still gone.
        rounds: how many rounds of probes were run after the first probes, or after those that a language model requested.
        is_confirmed: whether probes at two different moments showed the first of `candidates` as the cause.
    """

    known: KnownFacts
    candidates: tuple[Candidate, ...]
    rounds: int
    is_confirmed: bool

    @property
    def best(self) -> Candidate:
        """The most probable cause of the incident."""
        return self.candidates[0]

    @property
    def second(self) -> Candidate | None:
        """The cause that is probably present together with `best`, the most probable cause; None without such a cause.

        The probability that both causes are present must be above 0.5.
        """
        other, probability = next(iter(self.best.together.items()), ("", 0.0))
        if probability <= _PROBABLE:
            return None
        return next((item for item in self.candidates if item.cause == other), None)

    @property
    def cited(self) -> tuple[ProbeEvidence, ...]:
        """The evidence for the most probable cause, then for the second cause; for each, the strongest first."""
        causes = (self.best, self.second)
        facts = dict.fromkeys(condition.fact for each in causes if each is not None for condition in each.for_it)
        return tuple(self.known.evidence[fact] for fact in facts if fact in self.known.evidence)


class Investigator:
    """Investigates one incident.

    Args:
        take: a function that runs the probes with the given names at the same time, and returns their result.
        runbooks: the runbooks of all known causes.
        usual: medians of signals in the baseline, by name.
        onset: the kind of signals that deviated first (`traffic`, `latency` or `errors`); None if it is unknown.
        memory: `{cause: factor}`, from past incidents. The prior probability of each cause is multiplied by its factor.
        mended: causes repaired in this incident; their remaining signs are no evidence for another cause.
        settings: the thresholds and limits of an investigation.
    """

    def __init__(
        self,
        take: RunProbes,
        runbooks: Sequence[Runbook],
        *,
        usual: Mapping[str, float] | None = None,
        onset: FactValue | None = None,
        memory: Mapping[str, float] | None = None,
        mended: Iterable[str] = (),
        settings: InvestigationSettings | None = None,
    ) -> None:
        self._take = take
        self._runbooks = tuple(runbooks)
        self._usual = dict(usual or {})
        self._onset: dict[str, FactValue] = {} if onset is None else {ONSET: onset}
        self._memory = dict(memory or {})
        self._mended = frozenset(mended)
        self._settings = settings or InvestigationSettings()

    async def gather(self, poll: Snapshot) -> KnownFacts:
        """Run the first probes of the investigation; return their facts, and the other facts in `poll`.

        Facts that these probes can find are not taken from `poll`, even if the probes did not find them now.
        """
        relative = relative_facts(poll.numbers, self._usual)
        return await self._probe(KnownFacts({**poll.words, **poll.numbers, **relative, **self._onset}), FIRST_PROBES)

    def diagnose(self, known: KnownFacts) -> list[Candidate]:
        """Return the causes with their probabilities given the facts in `known`, the most probable first.

        Repaired causes that are still gone are left out.
        """
        return self._diagnosis(known).candidates()

    async def investigate(self, known: KnownFacts) -> InvestigationResult:
        """Run rounds of probes until no new probe is needed and the best cause is confirmed; at most `max_rounds`.

        If new probes are needed, a round runs them. Otherwise, the round repeats the probes for the best cause and for
        all sure causes. A cause is sure if its probability is at least `sure_probability`; two causes may be sure at
        once. Such a repetition confirms the best cause if this cause was already the best or a sure one before it.

        Args:
            known: the facts known at the start.
        """
        rounds, fresh = 0, False
        earlier = frozenset[str]()
        while True:
            candidates = self.diagnose(known)
            best = candidates[0]
            # If two causes are both sure, either may come first.
            # One moment is not enough: restarting workers, for example, look like another cause.
            is_confirmed = fresh and best.cause in earlier
            wanted = self._next(known)
            if rounds >= self._settings.max_rounds or (not wanted and is_confirmed):
                return InvestigationResult(known, tuple(candidates), rounds, is_confirmed)
            fresh = not wanted
            sure = [item for item in candidates if item.probability >= self._settings.sure_probability]
            earlier = frozenset({best.cause, *(item.cause for item in sure)})
            known = await self._probe(known, wanted or self._ground_of([best, *sure]))
            rounds += 1

    def _diagnosis(self, known: KnownFacts) -> Diagnosis:
        from relab.incidents.diagnosis.inference import Diagnosis  # noqa: PLC0415 it loads NumPy, which few commands need

        return Diagnosis(self._runbooks, known.facts, self._memory, self._mended)

    def _next(self, known: KnownFacts) -> list[str]:
        """Return the names of the probes to run next, at most `max_concurrent_probes`; empty if none is needed.

        Only probes that were not run yet count. The first case that applies decides. Cases 1 and 2 apply only if the
        best cause is not `unknown`.
        1. The best or the suspected second cause requires facts that are not known: the probes that find these facts.
        2. The best cause is sure, and no second cause is suspected: no probes.
        3. Otherwise: the probes that are expected to add enough information, the most information per cost first.
        """
        diagnosis = self._diagnosis(known)
        candidates = diagnosis.candidates()
        best, second = candidates[0], self._suspect(candidates)
        left = [probe for name, probe in PROBES.items() if name not in known.looked]
        if best.cause != UNKNOWN:
            for each in (best, second):
                unproven = {condition.fact for condition in each.unproven} if each is not None else set[str]()
                needed = [probe.name for probe in left if not unproven.isdisjoint(probe.facts)]
                if needed:
                    return needed[: self._settings.max_concurrent_probes]
            if best.probability >= self._settings.sure_probability and second is None:
                return []
        gains = {probe.name: diagnosis.gain(probe.facts) for probe in left}
        worth = [probe for probe in left if gains[probe.name] >= self._settings.min_gain_bits]
        worth.sort(key=lambda probe: (-gains[probe.name] / probe.cost, probe.name))
        return [probe.name for probe in worth[: self._settings.max_concurrent_probes]]

    def _suspect(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """Return the cause that is suspected in addition to the first of `candidates`; None if there is no such cause.

        Only the cause with the highest joint probability with the first one is considered. It is suspected if this
        joint probability is at least `suspected_probability` and less than `sure_probability`.
        """
        other, probability = next(iter(candidates[0].together.items()), ("", 0.0))
        if not self._settings.suspected_probability <= probability < self._settings.sure_probability:
            return None
        return next(item for item in candidates if item.cause == other)

    def _ground_of(self, candidates: Sequence[Candidate]) -> list[str]:
        """Return the names of the probes that find facts named in the runbooks of `candidates`.

        If there is no such probe, return `FIRST_PROBES`, the first probes of every investigation.
        """
        causes = {item.cause for item in candidates}
        books = [book for book in self._runbooks if book.cause in causes]
        facts = {each.condition.fact for book in books for each in book.expects}
        facts |= {each.fact for book in books for each in book.requires}
        return probes_for(facts) or list(FIRST_PROBES)

    async def _probe(self, known: KnownFacts, names: Sequence[str]) -> KnownFacts:
        found = await self._take(names)
        after = known.with_probes(names, found)
        numbers = {name: value for name, value in after.facts.items() if isinstance(value, float)}
        return replace(after, facts={**after.facts, **relative_facts(numbers, self._usual)})
