"""`lab serve`: the API, and beside it a worker process that ends with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from relab.bootstrap import Services


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind; RELAB_HTTP__HOST, default 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to bind; RELAB_HTTP__PORT, default 8000.", min=0, max=65535)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes beside the API; default 1, with RQ 0.", min=0, max=64)
    ] = None,
) -> None:
    """Serve the API. With the embedded queue a worker process runs beside it."""
    import uvicorn

    from relab.bootstrap import build
    from relab.cli.context import read_settings
    from relab.cli.processes import ChildProcesses
    from relab.core.logging import configure_logging

    settings = read_settings()
    configure_logging(settings.log_level, json_lines=settings.app_env != "development")
    address = host or settings.http.host
    if workers is None:
        workers = 0 if settings.job_mode == "rq" else 1
    services = build(settings)
    try:
        # Before the port is bound: a database that does not fit is an error message, not a stack trace.
        services.prepare()
        _refuse_open_public_bind(services, address)
    finally:
        services.close()
    with ChildProcesses([["worker"]] * workers):
        uvicorn.run(
            "relab.server:create",
            factory=True,
            host=address,
            port=settings.http.port if port is None else port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=5,
        )


def _refuse_open_public_bind(services: Services, address: str) -> None:
    """Refuse to offer an installation without tokens to the network."""
    import ipaddress

    from relab.core.errors import ConfigurationError

    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = address == "localhost"
    if is_loopback or services.settings.trust_loopback_publish or not services.access.is_open():
        return
    raise ConfigurationError(
        f"Binding {address} would let everybody on the network use relab: there are no tokens.",
        remedy="Make one with `lab auth create-token --name admin --scope admin`, or bind 127.0.0.1.",
    )
