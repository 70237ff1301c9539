"""The ASGI app of `lab serve`; uvicorn starts it by import string."""

from __future__ import annotations

import gc

from fastapi import FastAPI

from relab.api.app import create_app
from relab.bootstrap import build
from relab.core.logging import configure_logging
from relab.settings import load_settings


def create() -> FastAPI:
    """Return the app that the settings describe (`uvicorn --factory relab.server:create`)."""
    settings = load_settings()
    configure_logging(settings.log_level, json_lines=settings.app_env != "development")
    app = create_app(build(settings))
    _calm_the_collector()
    return app


def _calm_the_collector() -> None:
    """Run the cyclic garbage collector less often: spans and rows form no cycles, and each run visits all live objects.

    With Python's defaults it took a quarter of the time to read an export (2026-11-21, bench/ingest.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
