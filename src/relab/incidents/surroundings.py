"""What a responder can see and do, for the lint of runbooks: who names what there is not is told before the night."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from relab.core.errors import ConfigurationError
from relab.incidents.acting.actions_client import ActionsClient
from relab.incidents.looks.catalogue import LOOKS
from relab.incidents.looks.service import RELATIVE_FACTS
from relab.knowledge.service import ACTIONS, Surroundings


def surroundings(actions: Collection[str] = ACTIONS) -> Surroundings:
    """Return the looks with their facts, and the actions of a server; by default of the one that relab brings."""
    return Surroundings(actions, {name: look.facts for name, look in LOOKS.items()}, RELATIVE_FACTS)


def offered_actions(url: str, token: str | None) -> list[str]:
    """Return the names of the actions that a server offers.

    Raises:
        ConfigurationError: there is no token for it, or the address is none.
        ActionServerError: it does not say.
    """
    if token is None:
        raise ConfigurationError("There is no token for the action server.", remedy="Set ACTION_SERVER_TOKEN.")

    async def ask() -> list[str]:
        async with ActionsClient(url, token) as server:
            return sorted((await server.catalogue()).actions)

    return asyncio.run(ask())
