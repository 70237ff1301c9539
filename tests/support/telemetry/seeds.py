"""The agent runs of the workflows of the AgentOps seed."""

from __future__ import annotations

from pathlib import Path

FIXTURES = Path(__file__).parents[2] / "fixtures"


def seed_body(number: int) -> bytes:
    """Return the body that the seed's workflow `number` posts, byte by byte."""
    return (FIXTURES / f"seed_workflow_{number}.json").read_bytes()
