"""The composition root: builds all services from the settings.

Most modules build the services of one context (a part of relab, such as builds); `services.py` combines them.
"""

from __future__ import annotations

from relab.bootstrap.services import Services, build, run_queued_job

__all__ = ["Services", "build", "run_queued_job"]
