"""Store and read decisions of the optimizer; each method is one transaction."""

from __future__ import annotations

from typing import Any

from relab.builds import repository, totals
from relab.builds.errors import DecisionNotFoundError
from relab.builds.optimizer.decisions import BuildDecision
from relab.storage import Database, counters


class DecisionStore:
    """Stores and reads the decisions of the build optimizer, and counts decisions and rewards in the metrics."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, decision: BuildDecision) -> None:
        """Insert a decision."""
        with self._database.write() as unit:
            repository.add_decision(unit.session, {**_columns(decision), "decision_id": decision.decision_id})
            counters.add(unit.session, [totals.DECISIONS.one(decision.policy, str(decision.action_id))])

    def finish(self, decision: BuildDecision) -> bool:
        """Store the outcome of a decision; return False if an outcome was stored before."""
        with self._database.write() as unit:
            is_first = repository.finish_decision(unit.session, decision.decision_id, _columns(decision))
            if is_first and decision.reward is not None:
                counters.add(unit.session, [totals.REWARD.one(decision.reward, decision.policy)])
            return is_first

    def get(self, decision_id: str) -> BuildDecision:
        """Return a decision.

        Raises:
            DecisionNotFoundError: no decision has this id.
        """
        with self._database.read() as session:
            found = repository.get_decision(session, decision_id)
        if found is None:
            raise DecisionNotFoundError(decision_id)
        return BuildDecision.model_validate(found)

    def list_decisions(
        self, *, project: str | None, version: int | None, has_reward: bool, before: str | None, limit: int
    ) -> list[BuildDecision]:
        """Return at most `limit` decisions of the build optimizer, newest first.

        Args:
            project: only decisions for this project; None for all projects.
            version: only decisions that chose from this version of the catalogue of actions; None for all versions.
            has_reward: whether to return only decisions whose reward is known. False: all decisions.
            before: only decisions whose ids are lower than this id; None to begin with the newest decision.
            limit: the largest number of decisions.
        """
        with self._database.read() as session:
            found = repository.list_decisions(
                session, project=project, version=version, has_reward=has_reward, before=before, limit=limit
            )
        return [BuildDecision.model_validate(document) for document in found]


def _columns(decision: BuildDecision) -> dict[str, Any]:
    return {
        "project": decision.project,
        "catalogue_version": decision.catalogue_version,
        "policy": decision.policy,
        "action_id": decision.action_id,
        "propensity": decision.propensity,
        "reward": decision.reward,
        "decided_at": decision.decided_at,
        "document": decision.model_dump(mode="json"),
    }
