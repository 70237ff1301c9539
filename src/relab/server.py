"""The ASGI app of `lab serve`: what uvicorn starts by import string."""

from __future__ import annotations

from fastapi import FastAPI

from relab.api.app import create_app
from relab.bootstrap import build
from relab.core.logging import configure_logging
from relab.settings import load_settings


def create() -> FastAPI:
    """Return the app that the settings describe (`uvicorn --factory relab.server:create`)."""
    settings = load_settings()
    configure_logging(settings.log_level, json_lines=settings.app_env != "development")
    return create_app(build(settings))
