"""Errors of scenarios that are found before a scenario runs."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class ScenarioError(InvalidInputError):
    """A scenario file is invalid or uses unsupported features of chaostoolkit's format, or a variable is invalid."""

    code = "invalid_scenario"


class UnknownScenarioError(InvalidInputError):
    """There is neither a file nor a scenario of relab's own with this name."""

    code = "unknown_scenario"


class NoServerError(UnavailableError):
    """The testbed lacks a server that the scenario needs."""

    code = "no_server"
