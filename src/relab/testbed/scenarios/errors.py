"""Errors of scenarios that are found before a scenario runs."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class ScenarioError(InvalidInputError):
    """A file is not a valid scenario, or uses features of chaostoolkit's format that relab does not support."""

    code = "invalid_scenario"


class UnknownScenarioError(InvalidInputError):
    """No file and no scenario that comes with relab has this name."""

    code = "unknown_scenario"


class NoServerError(UnavailableError):
    """The testbed lacks a server that the scenario needs."""

    code = "no_server"
