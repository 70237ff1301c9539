"""The cases that each framework's program runs: questions, the scripted answers of the model, and the true outcome.

They are the same for all frameworks: the model server writes the answers in the form that a request asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MODELS = {
    "order_desk": "gpt-4o-mini",
    "front_desk": "gpt-4o-mini",
    "billing_desk": "gpt-4o",
    "north_desk": "gpt-4o-mini",
    "south_desk": "gpt-4o",
}
"""The model of each agent. Agents of one case have different models, by which the server identifies the caller."""

SESSION_ID = "session-7f3a"
USER_ID = "user-3c91"
STEP_LIMIT = 5
"""How often an agent may call its model, in frameworks that have such a limit."""


class TrueOutcome(StrEnum):
    """The true outcome of a run: whether the user got the requested result."""

    SUCCEEDED = "succeeded"
    COMPLETED_WITH_ERRORS = "completed_with_errors"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Ask:
    """A turn of the model: it asks for a call of a tool with these arguments, by name."""

    tool: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class AskAll:
    """A turn of the model: it asks for several tool calls at once, which the framework may run in parallel."""

    calls: Sequence[Ask]


@dataclass(frozen=True)
class Say:
    """A turn of the model: it gives its final answer.

    Attributes:
        text: the answer.
        finish: the finish reason; None for that of a complete answer.
        is_object: whether the answer is a JSON object, which goes through the framework's tool for answers.
    """

    text: str
    finish: str | None = None
    is_object: bool = False


@dataclass(frozen=True)
class Wait:
    """A turn in which the model does not answer before its caller gives up.

    `seconds` is the time after which the server ends the call.
    """

    seconds: float


@dataclass(frozen=True)
class HandOver:
    """A turn of the model: it hands a task over to the agent `to`, by the tool that the framework has for this."""

    to: str
    task: str


@dataclass(frozen=True)
class Refuse:
    """A turn in which the model's provider answers with an HTTP error.

    Attributes:
        status: the HTTP status.
        retry_after_s: the value of the header `Retry-After`.
        code, message: the fields of the error's body.
    """

    status: int
    retry_after_s: int
    code: str
    message: str


Turn = Ask | AskAll | Say | Wait | HandOver | Refuse


@dataclass(frozen=True)
class Case:
    """A case: the questions to the agents, the scripted answers of their models, and the true outcome.

    Attributes:
        questions: the question to each agent that the program itself calls, by the agent's name.
        turns: the answers of each agent's model, in order, by the agent's name.
        outcome: the outcome of the whole run if it gives an answer; a run without an answer has failed.
        blamed: the tool that is to blame for the outcome, or `model` for a model call; None if nothing is.
        blamed_agent: the agent that called this tool or model.
        agent_outcomes: the outcomes of agents that differ from that of the run, by the agent's name.
        endless: whether the last answer is repeated without end.
        guardrail: a text of the guardrail that trips; None if none does.
        is_common: whether all frameworks run the case, except those that cannot; others name it in `also`.
    """

    questions: Mapping[str, str]
    turns: Mapping[str, Sequence[Turn]]
    outcome: TrueOutcome
    blamed: str | None = None
    blamed_agent: str | None = None
    agent_outcomes: Mapping[str, TrueOutcome] = field(default_factory=dict)
    endless: bool = False
    guardrail: str | None = None
    is_common: bool = True


_WHERE = "Where is order A-17? My customer number is C-204."
_SHIPPED = "Order A-17 was shipped with Northpost and arrives on 25 November."
_SORRY = "I am sorry, I could not look up order A-17: the order database does not answer."
_LOOKUP = Ask("order_lookup", {"order_id": "A-17", "customer_id": "C-204"})
_SECRET = f"{_SHIPPED} The secret is 4711."
_OTHER_LOOKUP = Ask("order_lookup", {"order_id": "B-20", "customer_id": "C-311"})

CASES: Mapping[str, Case] = {
    "success": Case(
        questions={"order_desk": "Where is order A-17, and is B-52 in stock? My customer number is C-204."},
        turns={
            "order_desk": [
                _LOOKUP,
                Ask("stock_level", {"sku": "B-52"}),
                Say(f"{_SHIPPED} 12 pieces of B-52 are in stock."),
            ]
        },
        outcome=TrueOutcome.SUCCEEDED,
    ),
    "handled_error": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP, Say(_SORRY)]},
        outcome=TrueOutcome.COMPLETED_WITH_ERRORS,
        blamed="order_lookup",
        blamed_agent="order_desk",
    ),
    "streamed": Case(
        questions={"order_desk": "Where are orders A-17 and B-20? My customer numbers are C-204 and C-311."},
        turns={
            "order_desk": [
                AskAll([_LOOKUP, _OTHER_LOOKUP]),
                Say("Order B-20 was shipped with Northpost. I am sorry, I could not look up order A-17."),
            ]
        },
        outcome=TrueOutcome.COMPLETED_WITH_ERRORS,
        blamed="order_lookup",
        blamed_agent="order_desk",
    ),
    "raised_error": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP, Say(_SORRY)]},
        outcome=TrueOutcome.FAILED,
        blamed="order_lookup",
        blamed_agent="order_desk",
    ),
    "recovered": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP, _LOOKUP, Say(_SHIPPED)]},
        outcome=TrueOutcome.SUCCEEDED,
    ),
    "loop": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP]},
        outcome=TrueOutcome.COMPLETED_WITH_ERRORS,
        blamed="order_lookup",
        blamed_agent="order_desk",
        endless=True,
    ),
    "invalid_arguments": Case(
        questions={"order_desk": _WHERE},
        turns={
            "order_desk": [
                Ask("order_lookup", {"order_id": "A-17"}),
                Say("I am sorry, I was not able to look up order A-17."),
            ]
        },
        outcome=TrueOutcome.COMPLETED_WITH_ERRORS,
        blamed="order_lookup",
        blamed_agent="order_desk",
    ),
    "rate_limit": Case(
        questions={"order_desk": _WHERE},
        turns={
            "order_desk": [
                _LOOKUP,
                Refuse(
                    429,
                    20,
                    "rate_limit_exceeded",
                    "Rate limit reached for gpt-4o-mini on requests per min (RPM): Limit 3, Used 3, Requested 1. "
                    "Please try again in 20s.",
                ),
            ]
        },
        outcome=TrueOutcome.FAILED,
        blamed="model",
        blamed_agent="order_desk",
    ),
    "hand_over": Case(
        questions={"front_desk": "Please refund 12.50 EUR for order A-17."},
        turns={
            "front_desk": [
                HandOver("billing_desk", "Refund 12.50 EUR for order A-17."),
                # The model gives this answer only if the framework calls the other agent as a tool.
                Say("12.50 EUR for order A-17 are on their way to you."),
            ],
            "billing_desk": [
                Ask("refund", {"order_id": "A-17", "amount_eur": 12.5}),
                Say("I refunded 12.50 EUR for order A-17."),
            ],
        },
        outcome=TrueOutcome.SUCCEEDED,
    ),
    "two_agents": Case(
        questions={
            "north_desk": _WHERE,
            "south_desk": "Where is order B-20? My customer number is C-311.",
        },
        turns={
            "north_desk": [_LOOKUP, Say(_SORRY)],
            "south_desk": [
                _OTHER_LOOKUP,
                Say("Order B-20 was shipped with Northpost and arrives on 25 November."),
            ],
        },
        outcome=TrueOutcome.COMPLETED_WITH_ERRORS,
        blamed="order_lookup",
        blamed_agent="north_desk",
        agent_outcomes={"north_desk": TrueOutcome.COMPLETED_WITH_ERRORS, "south_desk": TrueOutcome.SUCCEEDED},
    ),
    "cancelled_model": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP, Wait(20)]},
        outcome=TrueOutcome.UNKNOWN,
        is_common=False,
    ),
    "cancelled_tool": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP]},
        outcome=TrueOutcome.UNKNOWN,
        is_common=False,
    ),
    "cancelled_first": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [Wait(20)]},
        outcome=TrueOutcome.UNKNOWN,
        is_common=False,
    ),
    "paused": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP]},
        outcome=TrueOutcome.UNKNOWN,
        is_common=False,
    ),
    "guardrail": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP, Say(_SECRET), Say(_SECRET)]},
        outcome=TrueOutcome.FAILED,
        blamed="model",
        blamed_agent="order_desk",
        guardrail="no_secrets",
        is_common=False,
    ),
    "structured": Case(
        questions={"order_desk": _WHERE},
        turns={
            "order_desk": [
                _LOOKUP,
                Say('{"order_id": "A-17", "carrier": "Northpost", "days": "soon"}', is_object=True),
                Say('{"order_id": "A-17", "carrier": "Northpost", "days": 3}', is_object=True),
            ]
        },
        outcome=TrueOutcome.SUCCEEDED,
        is_common=False,
    ),
    "cut_off": Case(
        questions={"order_desk": _WHERE},
        turns={"order_desk": [_LOOKUP, Say("Order A-17 was shipped with", finish="length")]},
        outcome=TrueOutcome.COMPLETED_WITH_ERRORS,
        blamed="model",
        blamed_agent="order_desk",
        is_common=False,
    ),
}
