"""What can be wrong with a scenario before it is run."""

from __future__ import annotations

from relab.core.errors import InvalidInputError, UnavailableError


class ScenarioError(InvalidInputError):
    """A file is no scenario, or one that is not run here."""

    code = "invalid_scenario"


class UnknownScenarioError(InvalidInputError):
    """There is neither a file nor a shipped scenario of this name."""

    code = "unknown_scenario"


class NoServerError(UnavailableError):
    """The testbed lacks a server that the scenario speaks to."""

    code = "no_server"
