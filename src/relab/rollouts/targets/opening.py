"""Build the target of a rollout from the section `subject` of its plan; no request is sent yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relab.core.json import JsonValue
from relab.core.logging import get_logger
from relab.flags.service import FlagService
from relab.rollouts.errors import SubjectError, TargetUnavailableError
from relab.rollouts.models import Arm
from relab.rollouts.plans.models import Plan
from relab.rollouts.plans.subject import (
    FlagSubject,
    HttpFlagSubject,
    ProductFlagSubject,
    ServiceFlagsSubject,
    Subject,
)
from relab.rollouts.targets.health import HealthGate, lab_config_check
from relab.rollouts.targets.http_flag import HttpFlagTarget
from relab.rollouts.targets.json_client import JsonClient, with_environment
from relab.rollouts.targets.metrics import MetricSource, metric_source
from relab.rollouts.targets.product_flag import ProductFlagTarget
from relab.rollouts.targets.protocol import FlagState, FlagTarget
from relab.rollouts.targets.retries import RetryLog
from relab.rollouts.targets.service_flags import ServiceFlagsTarget

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RolloutTarget:
    """The target of one rollout: a service with its flags, health check and metric.

    Attributes:
        base_url: the URL of the service, without a slash at the end; the load is sent there.
        subject: the section of the plan that describes flags, health and metric.
        flags: the flags of the target.
        health: the health check of the target.
        metric: the source of the metric that decides the rollout. None: the P95 latency under load decides.
        report: the client that sends the rollout's report to the service; None if the service does not accept reports.
        retries: counts the repeated requests for flags and for the metric.
    """

    base_url: str
    subject: Subject
    flags: FlagTarget
    health: HealthGate
    metric: MetricSource | None
    report: JsonClient | None = None
    retries: RetryLog = field(default_factory=RetryLog)

    def label_of(self, arm: Arm) -> str:
        """Return the text that replaces `$arm` (the measured set of flags) in the URLs and queries of the metric.

        This is the name of the arm's variant for relab's own flags, and otherwise the letter of the arm, such as `A`.
        """
        flag = self.subject.flags
        if isinstance(flag, ProductFlagSubject):
            return flag.a if arm is Arm.A else flag.b
        return arm.value

    def changes_of(self, before: FlagState, planned: Mapping[Arm, JsonValue]) -> dict[Arm, JsonValue]:
        """Return `{arm (set of flags): change of flags as JSON}`; each change puts the flags of its arm in force.

        Args:
            before: the flags before the rollout.
            planned: the flags to set for each arm, from `flags_of`. They are the changes of a service's flags (the JSON
                object `{control, routing}`). The changes of an HTTP flag and of a flag of relab do not depend on them.

        Raises:
            SubjectError: a flag of relab is archived or disabled, or lacks a variant that the plan names.
        """
        flag = self.subject.flags
        if isinstance(flag, ProductFlagSubject):
            return {Arm.A: self.share_of(before, 0), Arm.B: self.share_of(before, 100)}
        if isinstance(flag, HttpFlagSubject):
            return {Arm.A: before.value if flag.a is None else flag.a, Arm.B: flag.b}
        return dict(planned)

    def put_report(self, report: Mapping[str, JsonValue]) -> bool:
        """Send the report of a rollout to the service, and return whether the service stored it.

        Return False if the service does not accept reports. If the request fails, log the error and return False.
        """
        if self.report is None:
            return False
        url = f"{self.base_url}/ops/lab/report"
        try:
            answer = self.report.request("PUT", url, dict(report))
        except TargetUnavailableError as error:
            _log.warning("rollout_report_not_put", url=url, error=str(error))
            return False
        if not answer.is_success:
            _log.warning("rollout_report_not_put", url=url, error=answer.problem())
        return answer.is_success

    def share_of(self, before: FlagState, share_pct: float) -> JsonValue:
        """Return the change of the flags by which only a share of the clients gets the new flags (arm B).

        This needs a flag of relab. Such a flag distinguishes clients by their targeting keys.

        Args:
            before: the flags before the rollout.
            share_pct: the share of the clients with arm B, in percent.

        Raises:
            SubjectError: the target's flag is not a flag of relab, is archived or disabled, or lacks a variant that the plan
                names.
        """
        if not isinstance(self.flags, ProductFlagTarget):
            raise SubjectError(
                f"The flags of kind {self.subject.flags.kind} apply to all requests, so they have no shares.",
                remedy="Remove `canary`, or use a flag of kind product_flag.",
            )
        return self.flags.share_of(before, share_pct)


@dataclass(frozen=True, slots=True)
class TargetOpener:
    """Builds the `RolloutTarget` of a plan: the object through which relab reads, changes and measures the target.

    Attributes:
        flags: relab's own feature flags.
        environment: the environment variables that the plan's HTTP headers may use.
    """

    flags: FlagService
    environment: Mapping[str, str]

    def open(self, plan: Plan) -> RolloutTarget:
        """Return the target that a plan describes; no request is sent yet.

        Raises:
            SubjectError: a header needs an environment variable that is not set or not allowed.
        """
        subject, url, timeout_s, retries = plan.subject, plan.base_url, plan.timeout, RetryLog()
        check = subject.health
        if check is None and isinstance(subject.flags, ServiceFlagsSubject):
            check = lab_config_check(url, subject.flags.headers)
        return RolloutTarget(
            base_url=url,
            subject=subject,
            flags=self._flag_target(url, subject.flags, timeout_s, retries),
            health=HealthGate(check, self.environment, timeout_s=timeout_s),
            metric=None
            if subject.metric is None
            else metric_source(subject.metric, self.environment, timeout_s=timeout_s, retries=retries),
            report=_report_client(subject.flags, self.environment, timeout_s),
            retries=retries,
        )

    def _flag_target(self, base_url: str, subject: FlagSubject, timeout_s: float, retries: RetryLog) -> FlagTarget:
        if isinstance(subject, ProductFlagSubject):
            return ProductFlagTarget(self.flags, subject)
        if isinstance(subject, HttpFlagSubject):
            return HttpFlagTarget(subject, self.environment, timeout_s=timeout_s, retries=retries)
        return ServiceFlagsTarget(base_url, subject, self.environment, timeout_s=timeout_s, retries=retries)


def _report_client(subject: FlagSubject, environment: Mapping[str, str], timeout_s: float) -> JsonClient | None:
    if not isinstance(subject, ServiceFlagsSubject):
        return None
    return JsonClient(timeout_s, with_environment(subject.headers, environment))
