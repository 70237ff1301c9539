"""relab: the reliability lab for AI agents and the services they keep alive."""

__version__ = "0.1.0"
