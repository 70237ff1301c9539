"""A language model's commentary on a finished rollout: sentences whose figures and names are in the rollout's record.

The commentary is printed beside the report on request. It is not stored, and no verdict and no decision depends on it.
"""

from __future__ import annotations

import json
import secrets
from string import Template
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from relab.llm import LlmGateway, Prompt, prompt_text
from relab.rca.service import check_sentence
from relab.rollouts.errors import RolloutStateError
from relab.rollouts.record import RolloutRecord

MAX_CLAIMS: Final = 5
_MAX_CITED: Final = 8
_SECTIONS: Final = ("INPUTS", "RESULTS", "VERDICT")


class CommentClaim(BaseModel):
    """One sentence of a commentary, and the ids of the facts on which it is based."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    fact_ids: tuple[str, ...]


class _CommentAnswer(BaseModel):
    """The answer of the language model: its sentences (claims), in reading order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    claims: Annotated[tuple[CommentClaim, ...], Field(max_length=20)]


class Commentary(BaseModel):
    """A language model's commentary on a rollout; only sentences that the facts support are kept.

    Attributes:
        rollout_id: the id of the rollout.
        claims: the kept sentences, in reading order; may be empty.
        dropped: the reason for each dropped sentence, such as `ungrounded_token` (a name or number is not in the
            facts).
        facts: `{id: line of the rollout's summary}`, the facts that were sent to the model.
    """

    model_config = ConfigDict(frozen=True)

    rollout_id: str
    claims: tuple[CommentClaim, ...]
    dropped: tuple[str, ...]
    facts: dict[str, str]


def comment_on(record: RolloutRecord, summary: str, gateway: LlmGateway) -> Commentary:
    """Return a language model's commentary on an ended rollout.

    Args:
        record: the rollout.
        summary: the summary of the rollout; its lines are the facts for the model.
        gateway: calls the model, within a budget.

    Raises:
        RolloutStateError: the rollout is not over.
        LlmError: there is no model, its budget is spent, or its answer is invalid.
    """
    if not record.status.is_over:
        raise RolloutStateError(f"The rollout {record.rollout_id} is not over; its status is {record.status.value}.")
    facts = facts_of(summary)
    answer = gateway.complete(comment_prompt(facts, code=secrets.token_hex(16)), _CommentAnswer)
    kept: list[CommentClaim] = []
    dropped: list[str] = []
    for claim in answer.claims[:MAX_CLAIMS]:
        problem, text = _citation_problem(claim, facts), claim.text
        if problem is None:
            text, problem = check_sentence(claim.text, [facts[name] for name in claim.fact_ids])
        if problem is None:
            kept.append(CommentClaim(text=text, fact_ids=claim.fact_ids))
        else:
            dropped.append(problem)
    dropped += ["too_many_claims"] * len(answer.claims[MAX_CLAIMS:])
    return Commentary(rollout_id=record.rollout_id, claims=tuple(kept), dropped=tuple(dropped), facts=facts)


def facts_of(summary: str) -> dict[str, str]:
    """Return the lines about inputs, results and verdict in a rollout's summary, as `{"f1": line, "f2": line, ...}`."""
    lines: list[str] = []
    for section in summary.split("\n\n"):
        title, *rest = section.strip().splitlines() or [""]
        if title in _SECTIONS:
            lines += [line.removeprefix("- ") for line in rest]
    return {f"f{number}": line for number, line in enumerate(lines, 1)}


def comment_prompt(facts: dict[str, str], *, code: str) -> Prompt:
    """Return the prompt that asks a language model for a commentary on `facts`, `{id: fact}`.

    `code` is a part of the marks that show the model where the facts begin and end. It must be random, so that no fact
    can contain such a mark.
    """
    # ASCII on one line without angle brackets, so that no part of it can look like the marks around it.
    data = json.dumps(facts).replace("<", "\\u003c").replace(">", "\\u003e")
    return Prompt(
        system=prompt_text("rollouts", "comment.system.txt"),
        user=Template(prompt_text("rollouts", "comment.user.txt")).substitute(code=code, facts=data),
    )


def _citation_problem(claim: CommentClaim, facts: dict[str, str]) -> str | None:
    if not claim.fact_ids:
        return "no_citation"
    if any(name not in facts for name in claim.fact_ids):
        return "unknown_fact"
    return "too_many_citations" if len(set(claim.fact_ids)) > _MAX_CITED else None
