"""`lab serve`: the API, and beside it a worker process that ends with it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

if TYPE_CHECKING:
    import socket

    from relab.bootstrap import Services
    from relab.serving.limits import HttpLimits
    from relab.settings import HttpSettings, Settings

STREAMS_END_WITHIN_S = 5
"""How long open requests may take to end once the server is told to stop."""

Port = Annotated[
    int | None,
    typer.Option(
        help="Port to bind; RELAB_HTTP__PORT, default 8000; with --only incidents PORT, default 9001.",
        min=0,
        max=65535,
    ),
]
Only = Annotated[Literal["incidents"] | None, typer.Option(help="Serve this alone: here the responder and its API.")]
Autonomy = Annotated[
    Literal["observe", "suggest", "approve", "act"] | None,
    typer.Option(help="What the responder may do by itself; RELAB_INCIDENTS__AUTONOMY, default approve."),
]


def serve(
    host: Annotated[str | None, typer.Option(help="Address to bind; RELAB_HTTP__HOST, default 127.0.0.1.")] = None,
    port: Port = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes beside the API; default 1, with RQ 0.", min=0, max=64)
    ] = None,
    only: Only = None,
    autonomy: Autonomy = None,
) -> None:
    """Serve the API. With the embedded queue a worker process runs beside it.

    If TARGET_API_BASE_URL is set, that service is watched, and its incidents are responded to; of several
    processes on one database, one does so.

    SIGTERM and Ctrl-C stop both in order: open requests end, the job in hand is finished,
    the exit code is 0.
    """
    import signal

    import structlog

    from relab.cli.context import read_settings
    from relab.cli.http_server import HttpServer
    from relab.cli.processes import ChildProcesses
    from relab.core.logging import configure_logging

    _hand_on(only, autonomy)
    settings = read_settings()
    configure_logging(settings.log_level, json_lines=settings.app_env != "development")
    address = host or settings.http.host
    is_alone = settings.serve_only == "incidents"
    if port is None:
        port = settings.port if is_alone else settings.http.port
    wants_worker = _check(settings, address)
    if workers is None:
        workers = 1 if wants_worker and not is_alone else 0
    with _bind(address, port) as listener:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        with ChildProcesses([["worker"]] * workers):
            structlog.get_logger("relab.serve").info("listening", url=_url(listener))
            HttpServer(_limits(settings.http), STREAMS_END_WITHIN_S).run(sockets=[listener])


def _limits(http: HttpSettings) -> HttpLimits:
    """Return the limits that the settings describe; both use the same names."""
    import dataclasses

    from relab.serving.limits import HttpLimits

    return HttpLimits(**{field.name: getattr(http, field.name) for field in dataclasses.fields(HttpLimits)})


def _hand_on(only: str | None, autonomy: str | None) -> None:
    """Have options beat the environment, also where the app reads its settings by itself."""
    for name, value in (("RELAB_SERVE_ONLY", only), ("RELAB_INCIDENTS__AUTONOMY", autonomy)):
        if value is not None:
            os.environ[name] = value


def _check(settings: Settings, address: str) -> bool:
    """Prepare the database and check the settings before the port is bound.

    Return whether the job back end wants a worker beside the server.

    Raises:
        RelabError: some part cannot be used; the command prints this error instead of the server's stack trace.
    """
    import structlog

    from relab.bootstrap import build

    services = build(settings)
    try:
        services.prepare()
        if services.knowledge.make_folder():
            log = structlog.get_logger("relab.serve")
            log.info("runbooks_folder_made", folder=str(services.knowledge.folder), setting="RUNBOOKS_PATH")
        services.knowledge.check()
        services.incidents.check()
        services.notices.check()
        _refuse_open_public_bind(services, address)
        return services.job_backend.worker_beside_server
    finally:
        services.close()


def _leave(*_: object) -> NoReturn:
    """End the process through its clean-up.

    uvicorn raises the signal it got anew once it has shut down; by default that would end
    this process there, before its workers are waited for, as if it had been killed.
    """
    raise SystemExit(0)


def _bind(address: str, port: int) -> socket.socket:
    """Take the port before any worker is started.

    Raises:
        UnavailableError: the port cannot be had.
    """
    import socket

    from relab.core.errors import UnavailableError

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, port), family=family, backlog=2_048)
    except OSError as error:
        # Python adds the address to the system's words.
        reason = (error.strerror or str(error)).partition(" (")[0]
        raise UnavailableError(
            f"Cannot listen on {address} port {port}: {reason}.",
            remedy="Stop the program that has the port, or choose another with --port (RELAB_HTTP__PORT).",
        ) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _refuse_open_public_bind(services: Services, address: str) -> None:
    """Refuse to offer an open installation to the network."""
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
