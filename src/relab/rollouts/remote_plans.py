"""Reject plans from HTTP clients that name files, or hosts other than this machine and the allowed ones."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from urllib.parse import urlsplit

from relab.rollouts.errors import PlanInvalidError
from relab.rollouts.plans.models import Plan, ReportFiles


def reject_files(plan: Plan) -> None:
    """Reject a plan from an HTTP client if it names a file, because the worker would use a file of its own machine.

    Raises:
        PlanInvalidError: `experiment.mix` is not the name of a built-in mix of requests, or a path in `report` is not
            the default.
    """
    from relab.load.service import built_in_names

    problems = [
        (f"report.{name}", "cannot be set in a rollout that is started over HTTP")
        for name in ("output_path", "history_path")
        if getattr(plan.report, name) != ReportFiles.model_fields[name].default
    ]
    if plan.experiment.mix not in built_in_names():
        names = ", ".join(built_in_names())
        problems.append(("experiment.mix", f"must be one of {names} in a rollout that is started over HTTP"))
    if problems:
        raise PlanInvalidError("The plan names files of the server.", problems=tuple(problems))


def reject_hosts(plan: Plan, allowed: Collection[str]) -> None:
    """Reject a plan with the URL of a host that is neither this machine nor in `allowed`.

    Args:
        plan: the plan.
        allowed: names or addresses of hosts, in lower case, each with or without a port.

    Raises:
        PlanInvalidError: a URL names another host.
    """
    # The server can reach more hosts than the client; a plan must not use the server to reach them.
    problems = []
    for field, url in _urls_of(plan):
        parts = urlsplit(url)
        host = parts.hostname or ""
        if not _is_this_machine(host) and not {host, f"{host}:{parts.port}"} & set(allowed):
            problems.append((field, f"names the host {host[:200]!r}, which the server does not allow"))
    if problems:
        raise PlanInvalidError(
            "The plan names hosts that the server does not allow.",
            problems=tuple(problems),
            remedy="Allow them in RELAB_ROLLOUTS__ALLOWED_HOSTS, or run `lab rollout run` on a machine of yours.",
        )


def _urls_of(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield (name of the field, URL) for each field of a plan with a URL. A rollout sends requests to these URLs."""
    yield "base_url", plan.base_url
    subject = plan.subject
    for section in ("flags", "health", "metric"):
        for name, value in getattr(subject, section) or ():
            # By the name of the field, so that a new kind of flag or metric cannot be left out.
            if name.endswith("url") and value is not None:
                yield f"subject.{section}.{name}", value


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
