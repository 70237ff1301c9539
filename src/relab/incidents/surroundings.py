"""What a responder can see and do, for the lint of runbooks and settings: who names what there is not is told before the night."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from relab.core.errors import ConfigurationError
from relab.core.yaml_source import nearest
from relab.incidents.acting.actions_client import ActionsClient
from relab.incidents.acting.catalogue import Catalogue
from relab.incidents.diagnosis.onset import ONSET
from relab.incidents.looks.catalogue import LOOKS
from relab.incidents.looks.service import RELATIVE_FACTS
from relab.knowledge.service import ACTIONS, Surroundings


def surroundings(actions: Collection[str] = ACTIONS) -> Surroundings:
    """Return the looks with their facts, and the actions of a server; by default of the one that relab brings."""
    return Surroundings(actions, {name: look.facts for name, look in LOOKS.items()}, (*RELATIVE_FACTS, ONSET))


def offered_actions(url: str, token: str | None) -> list[str]:
    """Return the names of the actions that a server offers.

    Raises:
        ConfigurationError: there is no token for it, or the address is none.
        ActionServerError: it does not say.
    """
    return sorted(_catalogue(url, token).actions)


def strange_classes(url: str, token: str | None, named: Collection[str]) -> list[str]:
    """Return those of some classes of actions that a server has no action of; see `strangers`.

    Raises:
        ConfigurationError: there is no token for it, or the address is none.
        ActionServerError: it does not say.
    """
    return strangers(_catalogue(url, token), named)


def strangers(catalogue: Catalogue, named: Collection[str]) -> list[str]:
    """Return those of some classes that no action is of, each with what may have been meant.

    What is allowed or forbidden of such a class is so of nothing: the actions that were meant are done by the rule for all.
    """
    offered = sorted({entry.action_class for entry in catalogue.actions.values()})
    return [f"{name[:100]!r}{nearest(name, offered)}" for name in sorted(named) if name not in offered]


def _catalogue(url: str, token: str | None) -> Catalogue:
    if token is None:
        raise ConfigurationError("There is no token for the action server.", remedy="Set ACTION_SERVER_TOKEN.")

    async def ask() -> Catalogue:
        server = ActionsClient(url, token)
        return await server.catalogue()

    return asyncio.run(ask())
