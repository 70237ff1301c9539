"""Builds the service of runbooks and past incidents from the settings."""

from __future__ import annotations

from relab.bootstrap.foundation import Foundation
from relab.knowledge.service import KnowledgeService, packaged_meaning


def build_knowledge(base: Foundation) -> KnowledgeService:
    """Return the service that stores and searches runbooks and past incidents.

    `base` has the database, clock and settings of the process.
    """
    settings = base.settings
    return KnowledgeService(
        base.database,
        folder=settings.runbooks_path and settings.runbooks_path.expanduser().absolute(),
        home_folder=settings.home / "knowledge",
        without=settings.incidents.excluded_runbooks,
        remembers=settings.incidents.use_incident_history,
        meaning=packaged_meaning(
            (settings.vector_store_path or settings.home / "vector_store").expanduser().absolute()
        ),
    )
