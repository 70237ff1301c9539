"""The composition root: builds all services from the settings. One module per context; `services.py` joins them."""

from __future__ import annotations

from relab.bootstrap.services import Services, build, run_queued_job

__all__ = ["Services", "build", "run_queued_job"]
