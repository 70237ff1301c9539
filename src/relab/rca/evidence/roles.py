"""Roles: which steps of a run are messages that an agent receives, by the names of their speakers.

Longer names such as "Customer Support" and "Tool Expert" are names of agents.
"""

from __future__ import annotations

import re

_PERSON = re.compile(r"\A(?:user|human|customer) ?(?:[:(\[]|\Z)", re.IGNORECASE)
_GIVEN = re.compile(r"\A(?:system|tool|function|environment|observation) ?(?:[:(\[]|\Z)", re.IGNORECASE)


def is_person(speaker: str) -> bool:
    """Return whether a speaker is a user: its name is such a role, alone or before a bracket or colon."""
    return _PERSON.search(speaker) is not None


def is_given(speaker: str) -> bool:
    """Return whether an agent receives the messages of a speaker: of a user, a tool, or a system prompt."""
    return is_person(speaker) or _GIVEN.search(speaker) is not None
