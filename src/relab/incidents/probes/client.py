"""Run probes by name, and return their facts with the evidence for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from relab.core.clock import Clock, SystemClock
from relab.core.errors import NotFoundError
from relab.core.json import canonical_json
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.models import BUDGET_S, Observation, Probe, ProbeEvidence, ProbeResponse, ProbeResult
from relab.incidents.probes.requests import ProbeTransport
from relab.knowledge.models import FactValue


class UnknownProbeError(NotFoundError):
    """The catalogue has no probe with this name."""

    code = "unknown_look"


class ProbeClient:
    """Runs probes, and returns the facts that they find, each with its evidence.

    Args:
        asker: sends the requests.
        probes: the catalogue of probes, by name.
        clock: the current time; by default the clock of this machine.
    """

    def __init__(
        self, asker: ProbeTransport, *, probes: Mapping[str, Probe] = PROBES, clock: Clock | None = None
    ) -> None:
        self._asker = asker
        self._probes = probes
        self._clock = clock or SystemClock()

    async def run(self, names: Iterable[str], *, within_s: float = BUDGET_S) -> ProbeResult:
        """Run probes at the same time, and return the facts that they find.

        A request that several of the probes need is sent once.

        Args:
            names: the names of the probes.
            within_s: the time limit of all probes together, in seconds.

        Returns:
            The facts, the evidence for each fact, and the reason for each request without an answer.

        Raises:
            UnknownProbeError: a name is not in the catalogue; no request is sent.
        """
        wanted = [self._probe(name) for name in dict.fromkeys(names)]
        asks = list(dict.fromkeys(ask for probe in wanted for ask in probe.requests))
        answered = await self._asker.together(asks, within_s)
        now_us = self._clock.now_us()
        facts: dict[str, FactValue] = {}
        evidence: list[ProbeEvidence] = []
        for probe in wanted:
            answers = [answer for ask in probe.requests for answer in answered[ask]]
            # Times in an answer are by the clock of the server that sent it.
            ahead_us = next((answer.ahead_us for answer in answers if answer.absence is None), 0)
            for sighting in probe.read(answers, now_us + ahead_us):
                facts[sighting.fact] = sighting.value
                evidence.append(_cited(probe, sighting, answers, now_us))
        absent = {answer.request: answer.reason for found in answered.values() for answer in found if answer.absence}
        return ProbeResult(facts, tuple(evidence), absent)

    def _probe(self, name: str) -> Probe:
        if name not in self._probes:
            raise UnknownProbeError(
                f"There is no probe named {name[:60]!r}.", remedy=f"One of: {', '.join(self._probes)}."
            )
        return self._probes[name]


def _cited(probe: Probe, sighting: Observation, answers: Sequence[ProbeResponse], at_us: int) -> ProbeEvidence:
    request = answers[sighting.answer].request if sighting.answer < len(answers) else probe.name
    said = [probe.name, request, sighting.pointer, sighting.fact, sighting.value, sighting.verbatim, at_us]
    mark = hashlib.blake2b(canonical_json(said).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return ProbeEvidence(
        evidence_id=f"ev-{mark}",
        look=probe.name,
        request=request,
        pointer=sighting.pointer,
        fact=sighting.fact,
        value=sighting.value,
        verbatim=sighting.verbatim,
        at_us=at_us,
    )
