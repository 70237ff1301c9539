"""Builds the service of root cause analysis from the settings, and its job handlers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from relab.bootstrap.foundation import Foundation
from relab.core.errors import ConfigurationError
from relab.jobs.models import Subscription
from relab.llm.gateway import LlmGateway, NullGateway
from relab.llm.langchain_gateway import LangChainGateway
from relab.rca.handlers import RcaHandlers
from relab.rca.judge.stage import Judging, SentenceJudging
from relab.rca.models import JudgeMethod
from relab.rca.service import ANALYZE_JOB, NOTICE_JOB, SEARCH_JOB, RcaService, RuleBook
from relab.settings import Settings
from relab.telemetry.service import DELETED_JOB, TelemetryService

if TYPE_CHECKING:
    from relab.incidents.notices.service import NoticeService


def build_rca(base: Foundation, telemetry: TelemetryService, gateway: LlmGateway) -> RcaService:
    """Return the service of root cause analysis.

    The service reads runs from `telemetry`. If `gateway` has a language model, the model writes the summaries of
    reports. `base` has the database, clock and settings of the process.
    """
    rules = RuleBook(base.settings.rca.rules or base.settings.home / "rules.yaml")
    word = None
    if not isinstance(gateway, NullGateway):
        from relab.rca.wording import word_summary

        word = functools.partial(word_summary, gateway=gateway)
    judge, sentences = build_judges(base.settings, gateway)
    return RcaService(
        base.database,
        base.clock,
        base.queue,
        base.progress,
        telemetry,
        rules=rules,
        word=word,
        judge=judge,
        sentences=sentences,
        judge_by_default=JudgeMethod(base.settings.rca.judge),
    )


def build_judges(settings: Settings, gateway: LlmGateway) -> tuple[Judging, SentenceJudging] | tuple[None, None]:
    """Return `(judge of failures, judge of behaviours)`, two functions that call the language model.

    The judge of failures names the first wrong step of a run. The judge of behaviours decides whether a run shows a
    behaviour, which a rule describes in a sentence. Both are None if no model is configured.

    Raises:
        ConfigurationError: the settings limit the cost of the judges, but do not give the prices of the model's tokens.
    """
    if isinstance(gateway, NullGateway):
        return None, None
    from relab.llm import BudgetLimits
    from relab.rca.judge.judge import Judge
    from relab.rca.judge.sentences import SentenceJudge
    from relab.rca.judge.session import JudgeLimits

    rca, llm = settings.rca, settings.llm
    if rca.judge_max_usd is not None and None in (llm.prompt_usd_per_million, llm.completion_usd_per_million):
        raise ConfigurationError(
            "RELAB_RCA__JUDGE_MAX_USD needs prices.",
            remedy="Set RELAB_LLM__PROMPT_USD_PER_MILLION and RELAB_LLM__COMPLETION_USD_PER_MILLION.",
        )
    budget = BudgetLimits(
        max_calls=rca.judge_max_calls,
        max_prompt_tokens=rca.judge_max_tokens,
        max_usd=rca.judge_max_usd,
        prompt_usd_per_million=llm.prompt_usd_per_million,
        completion_usd_per_million=llm.completion_usd_per_million,
    )
    limits = JudgeLimits(budget, rca.judge_max_s, rca.judge_context_tokens, llm.max_completion_tokens)
    model = gateway.model if isinstance(gateway, LangChainGateway) else None
    judge = Judge(gateway, model=model, limits=limits)
    return judge.judge, SentenceJudge(gateway, model=model, limits=limits).judge


def subscriptions(service: RcaService, notices: Callable[[], NoticeService]) -> Sequence[Subscription]:
    """Return the job handlers of root cause analysis: for each job name, the function that a worker calls.

    Args:
        service: the service of root cause analysis.
        notices: returns the service that notifies people; it is called only for jobs that post a notification.
    """

    def post(args: Mapping[str, Any]) -> None:
        # Imported here, because most workers never post a notification.
        from relab.incidents.notices.service import NewNotice

        notices().post(NewNotice.model_validate(args))

    handlers = RcaHandlers(service)
    return [
        Subscription(ANALYZE_JOB, handlers.analyze, handlers.analysis_parked),
        Subscription(SEARCH_JOB, handlers.search),
        Subscription(NOTICE_JOB, post),
        Subscription(DELETED_JOB, handlers.delete_for_runs),
    ]
