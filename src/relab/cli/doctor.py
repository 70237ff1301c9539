"""`lab doctor`: check the configuration and the connections, and suggest a remedy for each problem."""

from __future__ import annotations

import importlib.util
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from relab.cli.context import open_services
from relab.cli.output import EXIT_UNAVAILABLE, JsonOption, print_json, print_table
from relab.core.errors import ConfigurationError, RelabError

if TYPE_CHECKING:
    from relab.bootstrap import Services
    from relab.storage import Database

_MODEL_SERVER_S = 10.0
"""How long the server of the language model may take to list its models, in seconds."""
_MOST_MODELS = 5


@dataclass(frozen=True)
class Check:
    """The result of one check of `lab doctor`.

    Attributes:
        name: the part that was checked.
        state: `problem` if the checked part cannot be used, `note` if the user should know something about it,
            otherwise `ok`.
        found: the result in words.
        remedy: what the user can do; None if there is nothing to do.
    """

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    remedy: str | None = None


def doctor(as_json: JsonOption = False) -> None:
    """Check the settings and all connections, and print a table; exit code 69 if a configured part cannot be used."""
    with open_services(prepare=False) as services:
        database = _database(services)
        # Without a usable schema, a table that a check reads may be missing.
        is_usable = all(check.state != "problem" for check in database)
        checks = [
            _python(),
            Check("home", "ok", str(services.settings.home)),
            *database,
            *((_queue(services), _access(services)) if is_usable else (_broker(services),)),
            _model(services),
            _try("runbooks", str(services.knowledge.folder), services.knowledge.check),
            *_responder(services),
            *_autonomy(services),
            *(_notices(services) if is_usable else ()),
            *_extras(),
        ]
    healthy = all(check.state != "problem" for check in checks)
    if as_json:
        print_json("doctor", healthy=healthy, checks=[asdict(check) for check in checks])
    else:
        rows = ((check.name, check.state, check.found, check.remedy) for check in checks)
        print_table("relab doctor", ("check", "state", "found", "remedy"), rows)
    if not healthy:
        raise typer.Exit(EXIT_UNAVAILABLE)


def _python() -> Check:
    from relab import __version__

    return Check("relab", "ok", f"{__version__} on Python {platform.python_version()} ({sys.platform})")


def _try(name: str, found: str, check: Callable[[], None]) -> Check:

    try:
        check()
    except RelabError as error:
        return Check(name, "problem", f"{found}: {error.message}", error.remedy)
    return Check(name, "ok", found)


def _database(services: Services) -> list[Check]:
    reached = _try("database", services.database.describe(), services.database.ping)
    if reached.state == "problem":
        return [reached]
    return [reached, _schema(services.database)]


def _schema(database: Database) -> Check:
    from relab.storage.preparing import prepare

    try:
        prepare(database)
    except RelabError as error:
        return Check("schema", "problem", error.message, error.remedy)
    return Check("schema", "ok", "fits this version")


def _broker(services: Services) -> Check:
    """Check that the broker of the job queue answers; the jobs themselves are in the database."""
    return _try("queue", services.settings.job_backend, services.job_backend.ping)


def _queue(services: Services) -> Check:
    mode = services.settings.job_backend
    reached = _broker(services)
    if reached.state == "problem":
        return reached

    try:
        counts, alive = services.queue.counts(), services.queue.worker_lives()
    except RelabError as error:
        return Check("queue", "problem", f"{mode}: {error.message}", error.remedy)
    found = f"{mode}; {counts.pending} pending, {counts.parked} parked; {'a' if alive else 'no'} worker is alive"
    if not alive and counts.pending:
        return Check("queue", "problem", found, "Start `lab serve` or `lab worker`.")
    if counts.parked:
        return Check("queue", "note", found, "`lab jobs list --status parked`, then `lab jobs retry ID`.")
    return Check("queue", "ok", found)


def _access(services: Services) -> Check:

    try:
        state = services.access.state()
    except RelabError as error:
        return Check("access", "problem", error.message, error.remedy)
    create = "`lab auth create-token --name admin --scope admin`"
    if state.is_open:
        found = "open: requests from this machine need no token, all others are rejected"
        return Check("access", "note", found, f"Before a public bind: {create}.")
    if not state.valid_tokens:
        found = "closed, and no token is valid: every request is rejected"
        return Check("access", "note", found, f"{create}; or `lab auth reopen` to accept this machine without a token.")
    return Check("access", "ok", f"closed: every request needs a token; {state.valid_tokens} valid")


def _model(services: Services) -> Check:
    from relab.bootstrap.llm import check_provider

    settings = services.settings
    try:
        check_provider(settings)
    except ConfigurationError as error:
        return Check("language model", "problem", error.message, error.remedy)
    if not settings.has_model:
        return Check(
            "language model",
            "note",
            "not configured: rules write the summaries",
            "Optional: set OPENAI_API_KEY, ANTHROPIC_API_KEY or RELAB_LLM__BASE_URL.",
        )
    if importlib.util.find_spec("langchain_core") is None:
        return Check(
            "language model", "problem", "configured, but the extra [llm] is not installed", "pip install 'relab[llm]'"
        )
    if settings.llm.base_url is None:
        # The key may not be meant for relab, so it is not used here.
        return Check("language model", "ok", "the provider's own endpoint")
    return _model_server(services, settings.llm.base_url)


def _model_server(services: Services, url: str) -> Check:
    """Check that the server of the language model at `url` responds, accepts the key and offers the model."""
    from relab.llm import LangChainGateway, LlmUnavailableError

    try:
        gateway = services.gateway
        assert isinstance(gateway, LangChainGateway)
        names = gateway.list_models(timeout_s=_MODEL_SERVER_S)
    except LlmUnavailableError as error:
        if error.status is None and not error.may_cost:
            return Check("language model", "problem", f"{url}: {error.message}", error.remedy)
        # Some servers answer nothing else while their model works.
        return Check("language model", "note", f"{url}: {error.message}", "It may be busy; repeat the command.")
    except RelabError as error:
        return Check("language model", "problem", f"{url}: {error.message}", error.remedy)
    if names is None:
        return Check(
            "language model",
            "note",
            f"{url}: it does not say whether it has the model {gateway.model!r}",
            "If calls fail, check RELAB_LLM__BASE_URL; many servers need /v1 at its end.",
        )
    if gateway.model not in names:
        return Check(
            "language model",
            "note",
            f"{url}: the model {gateway.model!r} is not among its {len(names)} models",
            f"If calls fail, set RELAB_LLM__MODEL; it offers {', '.join(names[:_MOST_MODELS])}.",
        )
    return Check("language model", "ok", f"{gateway.model} of {url}")


def _responder(services: Services) -> list[Check]:
    """Check that the watched target responds, and that the action server responds and accepts the configured token."""
    from relab.incidents.capabilities import health_of, offered_actions

    settings, url = services.settings, services.settings.watched_url
    try:
        watched = services.incidents.watched
    except RelabError as error:
        return [Check("target", "problem", f"the responder cannot be built: {error.message}", error.remedy)]
    if url is None or watched is None:
        return [Check("target", "note", "no target is watched", "Optional: set TARGET_API_BASE_URL.")]
    try:
        services.incidents.check()
        target = Check("target", "ok", f"{watched.name}: {health_of(url)}")
    except RelabError as error:
        target = Check("target", "problem", error.message, error.remedy)
    token = settings.action_server_token
    if token is None and settings.incidents.autonomy == "observe":
        found = "no token: the responder only observes, and probes only the target"
        return [target, Check("action server", "note", found, "Optional: set ACTION_SERVER_TOKEN.")]
    try:
        offered = offered_actions(settings.action_server_url, None if token is None else token.get_secret_value())
    except RelabError as error:
        return [target, Check("action server", "problem", error.message, error.remedy)]
    return [target, Check("action server", "ok", f"{settings.action_server_url}: {len(offered)} actions")]


def _autonomy(services: Services) -> list[Check]:
    """Check that the action server knows each action class (kind of action) that the settings name.

    The action server executes the responder's actions. The settings can set the responder's autonomy by action class.

    The result is empty if the settings name no class.
    """
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
        return [
            Check(
                name, "note", f"not checked, because the action server does not respond: {error.message}", error.remedy
            )
        ]
    if strange:
        found = f"{setting} contains unknown action classes: {', '.join(strange)}"
        remedy = f"Correct the name; until then RELAB_INCIDENTS__AUTONOMY ({settings.incidents.autonomy}) applies."
        return [Check(name, "problem", found, remedy)]
    return [Check(name, "ok", ", ".join(f"{each}: {level}" for each, level in sorted(named.items())))]


def _notices(services: Services) -> list[Check]:
    """Check for each receiver of notifications whether the last notification could be sent."""
    try:
        names = services.notices.configured()
        states = {state.receiver: state for state in services.notices.states()} if names else {}
    except RelabError as error:
        return [Check("notices", "problem", error.message, error.remedy)]
    if not names:
        optional = "Optional: RELAB_NOTICES__SLACK_WEBHOOK_URL, RELAB_NOTICES__PAGERDUTY_ROUTING_KEY."
        return [Check("notices", "note", "no receiver is configured", optional)]
    checks = []
    for name in names:
        state = states.get(name)
        if state is None:
            checks.append(Check(f"notices to {name}", "note", "never sent", "`lab serve` sends them while it runs."))
            continue
        found = f"{state.sent} sent, {state.given_up} given up"
        # The next successful notification clears the error.
        failing = state.error is not None
        remedy = "See the log of `lab serve`, and the address and the key in the settings." if failing else None
        found = f"{found}; last error: {state.error}" if failing else found
        checks.append(Check(f"notices to {name}", "note" if failing else "ok", found, remedy))
    return checks


def _extras() -> list[Check]:
    wanted = (("postgres", "psycopg"), ("redis", "rq"), ("llm", "langchain_core"), ("grpc", "grpc"))
    return [
        Check(f"extra [{name}]", "ok", "installed")
        if importlib.util.find_spec(module)
        else Check(f"extra [{name}]", "note", "not installed", f"If you need it: pip install 'relab[{name}]'")
        for name, module in wanted
    ]
