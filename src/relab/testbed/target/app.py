"""Build the target's HTTP application: routes, flow control before each request, and the responses to errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from relab.core.errors import InvalidInputError, RelabError
from relab.core.http_statuses import http_status
from relab.core.validation import plain_message
from relab.testbed.callers import OWN_NAMES
from relab.testbed.target.defects import Defects, socket_path
from relab.testbed.target.diagnostics_routes import diagnostics_routes
from relab.testbed.target.errors import DatabaseError, SearchError, StorageError
from relab.testbed.target.flow import FlowControl, route_of
from relab.testbed.target.lab_routes import lab_routes
from relab.testbed.target.operator_routes import operator_routes
from relab.testbed.target.parts import Parts
from relab.testbed.target.shop_routes import shop_routes


def create_app(parts: Parts) -> FastAPI:
    """Return the FastAPI app of one worker.

    The app starts the worker's parts (`Parts`) when it starts, and closes them when it ends.
    """
    app = FastAPI(title="Shop", version="1.0.0", lifespan=_lifespan(parts))
    for routes in (shop_routes, operator_routes, lab_routes, diagnostics_routes):
        app.include_router(routes(parts))
    app.add_middleware(FlowControl, gate=parts.gate, recorder=parts.recorder)
    listen = parts.settings.listen
    if listen.is_loopback:
        # A web page may use a host name that resolves to a loopback address; its browser then allows it every request.
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*OWN_NAMES, listen.host])

    @app.exception_handler(RelabError)
    async def refuse(request: Request, error: RelabError) -> JSONResponse:
        return _answer(parts, request, error)

    @app.exception_handler(RequestValidationError)
    async def refuse_input(_: Request, error: RequestValidationError) -> JSONResponse:
        problems = [
            {"field": ".".join(str(part) for part in item["loc"][1:]), "message": plain_message(item["msg"])}
            for item in error.errors()
        ]
        return JSONResponse({"detail": "The request is not valid.", "errors": problems}, status_code=422)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        message = f"{type(error).__name__}: {error}"
        parts.logger.log("error", "internal_error", message, route=_route(request), error=type(error).__name__)
        return JSONResponse({"detail": "Internal error."}, status_code=500)

    return app


def _lifespan(parts: Parts) -> Callable[[FastAPI], Any]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        defects = Defects(parts.database, parts.indexes.faiss)
        await defects.listen(socket_path(parts.settings.private_dir, parts.worker))
        await parts.look()
        parts.publish_statistics()
        care = asyncio.create_task(parts.run())
        parts.logger.log("info", "worker_started", f"worker {parts.worker} serves", version=parts.settings.version)
        try:
            yield
        finally:
            care.cancel()
            with suppress(asyncio.CancelledError):
                await care
            await defects.close()
            await parts.close()
            parts.logger.log("info", "worker_stopped", f"worker {parts.worker} has stopped")

    return lifespan


def _answer(parts: Parts, request: Request, error: RelabError) -> JSONResponse:
    status = http_status(error)
    headers = {"Retry-After": "1"} if status == 503 else {"WWW-Authenticate": "Bearer"} if status == 401 else None
    if isinstance(error, DatabaseError):
        message = f"DB_ERROR: {error.cause}"
        parts.logger.log("error", "db_error", message, route=_route(request), sqlstate=error.sqlstate, status=status)
    elif isinstance(error, StorageError):
        message = f"WRITE_ERROR: {error.cause}"
        code = error.cause.partition(":")[0]
        parts.logger.log("error", "storage_error", message, route=_route(request), error=code, status=status)
    elif isinstance(error, SearchError):
        parts.logger.log("error", "search_error", f"SEARCH_ERROR: {error.cause}", route=_route(request), status=status)
    body: dict[str, Any] = {"detail": str(error), "code": error.code}
    if isinstance(error, InvalidInputError) and error.problems:
        body["errors"] = [{"field": field, "message": message} for field, message in error.problems]
    return JSONResponse(body, status_code=status, headers=headers)


def _route(request: Request) -> str:
    return route_of(request.method, request.url.path) or request.url.path
