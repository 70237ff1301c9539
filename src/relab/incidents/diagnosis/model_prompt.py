"""Build the prompt for a language model: an incident's facts and possible causes, quoted as data, not instructions.

The prompt omits the probabilities that the rules computed. Otherwise the model would only repeat them, and its answer
would not be a second opinion.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any, Final

from relab.core.masking import mask_secrets
from relab.incidents.diagnosis.investigation import KnownFacts
from relab.incidents.probes.catalogue import PROBES
from relab.incidents.probes.models import ProbeEvidence
from relab.knowledge.models import FactValue, Runbook
from relab.llm import Prompt, prompt_text

MAX_CAUSES: Final = 60
MAX_EVIDENCE: Final = 250
MAX_FIGURES: Final = 80
MAX_TEMPLATES: Final = 30
MAX_TEXT: Final = 200
"""The maximum length of any one text, in characters."""
_MAX_SYMPTOMS: Final = 4
_WITHHELD: Final = "(not shown: it may hold a secret)"
_MAY_BE_SECRET: Final = re.compile(
    r"passw|secret|token|credential|authori[sz]|api.?key|bearer|cookie|://[^/\s]*@", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class PromptInput:
    """The content of a prompt that asks a language model for the cause of an incident.

    Attributes:
        known: the known facts, with their evidence.
        runbooks: the runbooks whose causes the model may name.
        templates: `{template: number of log lines}`; a template is a log line without its variable parts.
        memory: `{cause: factor}`; the factor comes from past incidents, and multiplies the prior of the cause.
        looks: the names of the probes that the model may request.
        looks_left: how many more times the model may request probes.
    """

    known: KnownFacts
    runbooks: Sequence[Runbook]
    templates: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, float] = field(default_factory=dict)
    looks: Sequence[str] = ()
    looks_left: int = 0


def build_prompt(case: PromptInput, *, code: str) -> Prompt:
    """Return the prompt for an incident.

    Args:
        case: the content.
        code: a random text in the markers around the incident's data. No text in the data can contain such a marker,
            because its writer does not know the code.
    """
    user = Template(prompt_text("incidents", "diagnose.user.txt"))
    return Prompt(
        system=prompt_text("incidents", "diagnose.system.txt"),
        user=user.substitute(code=code, incident=_incident(case)),
    )


def sent_evidence(known: KnownFacts) -> list[ProbeEvidence]:
    """Return the evidence that a prompt about these facts contains; the model may cite only this evidence."""
    return [known.evidence[fact] for fact in sorted(known.evidence)[:MAX_EVIDENCE]]


def _incident(case: PromptInput) -> str:
    evidence = sent_evidence(case.known)
    cited = {item.fact for item in evidence}
    figures = [(name, value) for name, value in sorted(case.known.facts.items()) if name not in cited]
    templates = sorted(case.templates.items(), key=lambda item: (-item[1], item[0]))[:MAX_TEMPLATES]
    document = {
        "causes": [_cause(book) for book in sorted(case.runbooks, key=lambda book: book.cause)],
        "evidence": _evidence(evidence),
        "figures": {name[:MAX_TEXT]: _value(value) for name, value in figures[:MAX_FIGURES]},
        "log": [[_shown(text), count] for text, count in templates],
        "remembered": {cause: round(factor, 2) for cause, factor in sorted(case.memory.items()) if factor > 1},
        "looks": {name: PROBES[name].shows for name in case.looks} if case.looks_left else {},
        "looks_left": case.looks_left,
    }
    # ASCII on one line, and no angle brackets: nothing in it can look like the marks around it.
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def _cause(book: Runbook) -> dict[str, Any]:
    return {
        "cause": book.cause,
        "title": book.title[:MAX_TEXT],
        "symptoms": [symptom[:MAX_TEXT] for symptom in book.symptoms[:_MAX_SYMPTOMS]],
        "expects": [[str(each.condition)[:MAX_TEXT], each.likely, each.otherwise] for each in book.expects],
        "requires": [str(each)[:MAX_TEXT] for each in book.requires],
    }


def _evidence(evidence: Sequence[ProbeEvidence]) -> list[dict[str, Any]]:
    found, listed = [], set[tuple[str, str]]()
    for item in evidence:
        entry = {"id": item.evidence_id, "fact": item.fact, "value": _value(item.value)}
        place = (item.request, item.pointer)
        # Many facts come from one place: quote it once, and not at all if it equals the value.
        if place not in listed and item.verbatim != json.dumps(item.value):
            listed.add(place)
            entry |= {"asked": item.request[:MAX_TEXT], "said": _shown(item.verbatim)}
        found.append(entry)
    return found


def _value(value: FactValue) -> FactValue:
    if isinstance(value, str):
        return mask_secrets(value)[:MAX_TEXT]
    if not isinstance(value, float):
        return value
    return round(value, 3) if math.isfinite(value) else str(value)


def _shown(text: str) -> str:
    """Return a text cut to `MAX_TEXT` characters; return a placeholder instead if the text may contain a secret."""
    return _WITHHELD if _MAY_BE_SECRET.search(text) else text[:MAX_TEXT]
