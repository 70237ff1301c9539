"""HTTP routes for the flags, for the last report, and to check whether an experiment can run.

The routes for flags and report have two paths each: under `/api` and under `/ops`.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from relab.core.errors import (
    ForbiddenError,
    InvalidInputError,
    TooLargeError,
    UnauthenticatedError,
    UnsupportedMediaError,
)
from relab.core.json import parse_json
from relab.testbed.target.parts import Parts
from relab.testbed.target.report import LabReport, ReportFile

BODY_BYTES = 1_000_000
_VERSION: Final = re.compile(r'"(\d{1,18})"')


def lab_routes(parts: Parts) -> APIRouter:
    """Return the routes that rollouts, experiments and people use to change the target's flags and to store reports."""
    routes = APIRouter(tags=["lab"])
    reports = ReportFile(parts.settings.data_dir)
    writer = Depends(_may_write(parts))

    @routes.get("/api/lab/config", summary="Whether an experiment can run here")
    async def config() -> dict[str, Any]:
        """Return the health of the cache and of Qdrant, the flags, and the URL paths of flags, report and metrics."""
        own = next(worker for worker in parts.workers() if worker.worker == parts.worker)
        redis, qdrant = own.gauges["probes"]["cache"], own.gauges["search"]["qdrant"]
        health = {
            "redis": {"ok": redis["ok"], "error": redis["error"]},
            "qdrant": {"ok": qdrant["state"] == "ready", "kind": qdrant["kind"], "state": qdrant["state"]},
        }
        return {
            "ok": all(part["ok"] for part in health.values()),
            "health": health,
            "flags": parts.flags.current.document(),
            "endpoints": {"flags": "/ops/flags", "report": "/ops/lab/report", "metrics": "/api/v1/metrics"},
        }

    async def read_flags() -> dict[str, Any]:
        """Return the current flags with their version, and the version that each worker applies."""
        parts.refresh_flags()
        applied = {worker.worker: worker.gauges["flags_version"] for worker in parts.workers()}
        return {"ok": True, **parts.flags.current.document(), "applied": applied}

    async def change_flags(request: Request) -> dict[str, Any]:
        """Change the flags in the body, and return all flags with the new version.

        If a flag is unknown or invalid, nothing is changed. With the header `If-Match: "VERSION"`, the answer is 412
        and nothing is changed if the flags have another version.
        """
        expected = _expected_version(request.headers.get("if-match"))
        return {"ok": True, **await parts.take_flags(parse_json(await _json_body(request)), expected)}

    async def read_report(mini: bool = Query(False), text: bool = Query(False)) -> Response:
        """Return the last report of a rollout or experiment.

        With `mini=1`, return the report's numbers as JSON, without its text for people. With `text=1`, return only the
        text.
        """
        report = await reports.read()
        if text:
            return PlainTextResponse(report.text)
        return JSONResponse(report.mini() if mini else report.model_dump())

    async def put_report(report: LabReport) -> dict[str, Any]:
        """Store a report of a rollout or experiment in place of the last one."""
        await reports.write(report)
        return {"ok": True}

    for path in ("/api/flags", "/ops/flags"):
        routes.get(path, summary="The flags")(read_flags)
        routes.post(path, summary="Change flags", dependencies=[writer])(change_flags)
    for path in ("/api/lab/report", "/ops/lab/report"):
        routes.get(path, summary="The last report")(read_report)
        routes.put(path, summary="Replace the report", dependencies=[writer])(put_report)
    return routes


def _may_write(parts: Parts) -> Callable[[Request], None]:
    token = parts.settings.token.get_secret_value() if parts.settings.token else None

    def check(request: Request) -> None:
        origin = request.headers.get("origin")
        # Protects against cross-site requests: a page in a user's browser must not change flags.
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise ForbiddenError("Requests of other sites' pages change nothing here.")
        if token is None:
            return
        given = request.headers.get("authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise UnauthenticatedError("To change something needs the token.", remedy="Send Authorization: Bearer …")

    return check


def _expected_version(header: str | None) -> int | None:
    """Return the version in an `If-Match` header; None without the header, or for `*`.

    Raises:
        InvalidInputError: the header is not a version in quotation marks.
    """
    if header is None or header.strip() == "*":
        return None
    found = _VERSION.fullmatch(header.strip())
    if found is None:
        raise InvalidInputError(
            'If-Match is not a version in quotation marks, such as "7".', problems=(("If-Match", "is not a version"),)
        )
    return int(found[1])


async def _json_body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaError("The body must be application/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise TooLargeError(f"The body is larger than {BODY_BYTES} bytes.")
    return bytes(body)
