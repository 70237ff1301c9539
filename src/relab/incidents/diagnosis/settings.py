"""The settings of investigations: when they stop, and when a language model is called."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class InvestigationSettings:
    """How many probes an investigation runs, and when it stops.

    Attributes:
        sure_probability: a cause with at least this probability is sure. If the best cause is sure, no second cause is
            suspected and all required facts are known, only probes that confirm the cause are run.
        suspected_probability: a second cause is suspected if it is present together with the best cause with at least
            this probability, but is not sure.
        min_gain_bits: the least information gain, in bits, for which a probe is run.
        max_concurrent_probes: the maximum number of new probes in one round, which run at the same time.
        max_rounds: the maximum number of rounds of probes in one investigation, after the first probes.
    """

    sure_probability: float = 0.9
    suspected_probability: float = 0.01
    min_gain_bits: float = 0.02
    max_concurrent_probes: int = 4
    max_rounds: int = 6


class AskWhen(StrEnum):
    """When an investigation calls a language model: never, only if the runbooks' rules are not sure, or always."""

    NEVER = "never"
    UNSURE = "unsure"
    """Only if the rules are not sure."""
    ALWAYS = "always"
    """Also if the rules are sure; the answer is then recorded, but changes nothing."""


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """When a language model is called, and its budget per incident.

    Attributes:
        when: in which incidents the model is called.
        max_rounds: how often the model may request probes in one diagnosis.
        max_probes_per_round: how many probes the model may request at once.
        max_calls, max_tokens, max_total_s: limits for one incident, over all its diagnoses and restarts. `max_total_s`
            includes the time that calls wait because too many other calls are running. A call that is not made after
            such a wait does not count for `max_calls`.
        call_timeout_s: the time limit of one call, retries included.
        max_answer_tokens: the maximum length of an answer, in tokens; reserved in the budget before each call.
    """

    when: AskWhen = AskWhen.NEVER
    max_rounds: int = 2
    max_probes_per_round: int = 4
    max_calls: int = 6
    max_tokens: int = 200_000
    max_total_s: float = 60.0
    call_timeout_s: float = 20.0
    max_answer_tokens: int = 1_024
