"""Take looks by name, and return their facts with the evidence for each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from relab.core.clock import Clock, SystemClock
from relab.core.errors import NotFoundError
from relab.core.json import canonical_json
from relab.incidents.looks.asking import Asker
from relab.incidents.looks.catalogue import LOOKS
from relab.incidents.looks.models import Answer, Evidence, Look, Looked, Sighting
from relab.knowledge.models import FactValue

BUDGET_S: Final = 6.0
"""The time limit, in seconds, of looks taken together; later answers count as absent, and the others are used."""


class UnknownLookError(NotFoundError):
    """No look has this name."""

    code = "unknown_look"


class LookClient:
    """Takes looks and cites their evidence.

    Args:
        asker: makes the requests.
        looks: the catalogue.
    """

    def __init__(self, asker: Asker, *, looks: Mapping[str, Look] = LOOKS, clock: Clock | None = None) -> None:
        self._asker = asker
        self._looks = looks
        self._clock = clock or SystemClock()

    async def take(self, names: Iterable[str], *, within_s: float = BUDGET_S) -> Looked:
        """Take looks; each request that several of them need is made once.

        Args:
            names: the names of the looks.
            within_s: time limit of all together, in seconds.

        Raises:
            UnknownLookError: one of the names is not in the catalogue; no request is made.
        """
        wanted = [self._look(name) for name in dict.fromkeys(names)]
        asks = list(dict.fromkeys(ask for look in wanted for ask in look.asks))
        answered = await self._asker.together(asks, within_s)
        now_us = self._clock.now_us()
        facts: dict[str, FactValue] = {}
        evidence: list[Evidence] = []
        for look in wanted:
            answers = [answer for ask in look.asks for answer in answered[ask]]
            # Times in an answer are by the clock of the server that sent it.
            ahead_us = next((answer.ahead_us for answer in answers if answer.absence is None), 0)
            for sighting in look.read(answers, now_us + ahead_us):
                facts[sighting.fact] = sighting.value
                evidence.append(_cited(look, sighting, answers, now_us))
        absent = {answer.request: answer.reason for found in answered.values() for answer in found if answer.absence}
        return Looked(facts, tuple(evidence), absent)

    def _look(self, name: str) -> Look:
        if name not in self._looks:
            raise UnknownLookError(f"There is no look {name[:60]!r}.", remedy=f"One of: {', '.join(self._looks)}.")
        return self._looks[name]


def _cited(look: Look, sighting: Sighting, answers: Sequence[Answer], at_us: int) -> Evidence:
    request = answers[sighting.answer].request if sighting.answer < len(answers) else look.name
    said = [look.name, request, sighting.pointer, sighting.fact, sighting.value, sighting.verbatim, at_us]
    mark = hashlib.blake2b(canonical_json(said).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return Evidence(
        evidence_id=f"ev-{mark}",
        look=look.name,
        request=request,
        pointer=sighting.pointer,
        fact=sighting.fact,
        value=sighting.value,
        verbatim=sighting.verbatim,
        at_us=at_us,
    )
