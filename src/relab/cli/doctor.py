"""`lab doctor`: what is configured, what can be reached, what is missing, and how to mend it."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from relab.cli.output import EXIT_UNAVAILABLE, JsonOption, print_json, print_table

if TYPE_CHECKING:
    from relab.bootstrap import Services


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    remedy: str | None = None


def doctor(as_json: JsonOption = False) -> None:
    """Look at the set-up; exit code 69 if something that is configured cannot be used."""
    from relab.cli.context import open_services

    with open_services(prepare=False) as services:
        checks = [
            _python(),
            Check("home", "ok", str(services.settings.home)),
            *_database(services),
            _queue(services),
            _access(services),
            _model(services),
            _attempt("runbooks", str(services.knowledge.folder), services.knowledge.check),
            *_responder(services),
            *_autonomy(services),
            *_notices(services),
            *_extras(),
        ]
    healthy = all(check.state != "problem" for check in checks)
    if as_json:
        print_json("doctor", healthy=healthy, checks=[asdict(check) for check in checks])
    else:
        rows = ((check.name, check.state, check.found, check.remedy) for check in checks)
        print_table("relab doctor", ("what", "state", "found", "remedy"), rows)
    if not healthy:
        raise typer.Exit(EXIT_UNAVAILABLE)


def _python() -> Check:
    from relab import __version__

    return Check("relab", "ok", f"{__version__} on Python {platform.python_version()} ({sys.platform})")


def _attempt(name: str, found: str, check: Callable[[], None]) -> Check:
    from relab.core.errors import RelabError

    try:
        check()
    except RelabError as error:
        return Check(name, "problem", f"{found}: {error.message}", error.remedy)
    return Check(name, "ok", found)


def _database(services: Services) -> list[Check]:
    from relab.storage.migrate import prepare

    reached = _attempt("database", services.database.describe(), services.database.ping)
    if reached.state == "problem":
        return [reached]
    return [reached, _attempt("schema", "fits this version", lambda: prepare(services.database))]


def _queue(services: Services) -> Check:
    mode = services.settings.job_mode
    reached = _attempt("queue", mode, services.announcer.ping)
    if reached.state == "problem":
        return reached
    from relab.core.errors import RelabError

    try:
        counts, alive = services.queue.counts(), services.worker_lives()
    except RelabError as error:
        return Check("queue", "problem", f"{mode}: {error.message}", error.remedy)
    found = f"{mode}; {counts.pending} pending, {counts.parked} parked; {'a' if alive else 'no'} worker lives"
    if not alive and counts.pending:
        return Check("queue", "problem", found, "Start `lab serve` or `lab worker`.")
    if counts.parked:
        return Check("queue", "note", found, "`lab jobs list --status parked`, then `lab jobs retry ID`.")
    return Check("queue", "ok", found)


def _access(services: Services) -> Check:
    from relab.core.errors import RelabError

    try:
        state = services.access.state()
    except RelabError as error:
        return Check("access", "problem", error.message, error.remedy)
    create = "`lab auth create-token --name admin --scope admin`"
    if state.is_open:
        found = "open: this machine may do everything without a token, others nothing"
        return Check("access", "note", found, f"Before a public bind: {create}.")
    if not state.valid_tokens:
        found = "closed, and no token is valid: every request is rejected"
        return Check("access", "note", found, f"{create}; or `lab auth reopen` for this machine alone.")
    return Check("access", "ok", f"closed: every request needs a token; {state.valid_tokens} valid")


def _model(services: Services) -> Check:
    settings = services.settings
    if settings.openai_api_key is None and settings.anthropic_api_key is None and settings.llm.base_url is None:
        return Check("language model", "note", "none: summaries are worded by rules", "Optional: set OPENAI_API_KEY.")
    if importlib.util.find_spec("langchain_core") is None:
        return Check("language model", "problem", "one is set, the extra is missing", "pip install 'relab[llm]'")
    return Check("language model", "ok", settings.llm.base_url or "the provider's own endpoint")


def _responder(services: Services) -> list[Check]:
    """Return whether the target that is watched answers, and the action server with the token of the settings."""
    from relab.core.errors import RelabError
    from relab.incidents.capabilities import health_of, offered_actions

    settings, url, watched = services.settings, services.settings.watched_url, services.incidents.watched
    if url is None or watched is None:
        return [Check("target", "note", "nothing is watched", "Optional: set TARGET_API_BASE_URL.")]
    try:
        services.incidents.check()
        target = Check("target", "ok", f"{watched.name}: {health_of(url)}")
    except RelabError as error:
        target = Check("target", "problem", error.message, error.remedy)
    token = settings.action_server_token
    if token is None and settings.incidents.autonomy == "observe":
        found = "no token: the responder observes, and looks at the target alone"
        return [target, Check("action server", "note", found, "Optional: set ACTION_SERVER_TOKEN.")]
    try:
        offered = offered_actions(settings.action_server_url, None if token is None else token.get_secret_value())
    except RelabError as error:
        return [target, Check("action server", "problem", error.message, error.remedy)]
    return [target, Check("action server", "ok", f"{settings.action_server_url}: {len(offered)} actions")]


def _autonomy(services: Services) -> list[Check]:
    """Return whether there is an action of each class that has an autonomy of its own: of a typo nobody would hear."""
    from relab.core.errors import RelabError
    from relab.incidents.capabilities import server_unknown_classes

    settings = services.settings
    named, token = settings.incidents.autonomy_by_class, settings.action_server_token
    if not named:
        return []
    name, setting = "autonomy by class", "RELAB_INCIDENTS__AUTONOMY_BY_CLASS"
    try:
        secret = None if token is None else token.get_secret_value()
        strange = server_unknown_classes(settings.action_server_url, secret, named)
    except RelabError as error:
        return [Check(name, "note", f"whether there are such actions nobody says: {error.message}", error.remedy)]
    if strange:
        found = f"{setting} names what is the class of no action: {', '.join(strange)}"
        remedy = f"Name the right one; until then RELAB_INCIDENTS__AUTONOMY ({settings.incidents.autonomy}) holds."
        return [Check(name, "problem", found, remedy)]
    return [Check(name, "ok", ", ".join(f"{each}: {level}" for each, level in sorted(named.items())))]


def _notices(services: Services) -> list[Check]:
    """Return how it stands with those who are told of incidents."""
    from relab.core.errors import RelabError

    try:
        names = services.notices.configured()
        states = {state.receiver: state for state in services.notices.states()} if names else {}
    except RelabError as error:
        return [Check("notices", "problem", error.message, error.remedy)]
    if not names:
        optional = "Optional: RELAB_NOTICES__SLACK_WEBHOOK_URL, RELAB_NOTICES__PAGERDUTY_ROUTING_KEY."
        return [Check("notices", "note", "nobody is told of incidents", optional)]
    checks = []
    for name in names:
        state = states.get(name)
        if state is None:
            checks.append(Check(f"notices to {name}", "note", "never sent", "They are sent while `lab serve` runs."))
            continue
        found = f"{state.sent} sent, {state.given_up} given up"
        # Cleared with the next notice that is taken.
        failing = state.error is not None
        remedy = "See the log of `lab serve`, and the address and the key in the settings." if failing else None
        said = f"{found}; last: {state.error}" if failing else found
        checks.append(Check(f"notices to {name}", "note" if failing else "ok", said, remedy))
    return checks


def _extras() -> list[Check]:
    wanted = (("postgres", "psycopg"), ("redis", "rq"), ("llm", "langchain_core"))
    return [
        Check(f"extra [{name}]", "ok", "installed")
        if importlib.util.find_spec(module)
        else Check(f"extra [{name}]", "note", "not installed", f"When needed: pip install 'relab[{name}]'")
        for name, module in wanted
    ]
