"""Roles: recognise the steps of a run that are messages to an agent, by the names of their speakers.

"user", "tool" and the like are roles: their messages are sent to an agent. Names that only contain such a word, like
"Customer Support" and "Tool Expert", are names of agents.
"""

from __future__ import annotations

import re

_PERSON = re.compile(r"\A(?:user|human|customer) ?(?:[:(\[]|\Z)", re.IGNORECASE)
_GIVEN = re.compile(r"\A(?:system|tool|function|environment|observation) ?(?:[:(\[]|\Z)", re.IGNORECASE)


def is_person(speaker: str) -> bool:
    """Return whether a speaker is a user.

    The name of a user is `user`, `human` or `customer`; a bracket or a colon and more text may follow.
    """
    return _PERSON.search(speaker) is not None


def is_given(speaker: str) -> bool:
    """Return whether a speaker is no agent, but sends messages to agents: a user, tool, environment, system prompt."""
    return is_person(speaker) or _GIVEN.search(speaker) is not None
