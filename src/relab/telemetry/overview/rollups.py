"""Roll-ups: sums over the runs that started in each hour and minute, from which the overview is computed.

Each write of a run adds the run's new values to the sums and subtracts its former values, in the same transaction. So
the sums are exact at any time and do not depend on the order of writes, except beyond `MAX_TOOLS` tools or
`MAX_MODEL_GROUPS` combinations of models in a bucket. One process may add a run and another one subtract it, each in a
row of its own, so that a row may have negative values; the sum over all rows of a bucket is what counts. Costs are
summed as integers (nano-dollars), because sums of floats are rounded and depend on the order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json

from relab.stats.log_histogram import bucket_of, quantile
from relab.telemetry.cost_models import BilledTokens
from relab.telemetry.outcome_models import OutcomeRule, RunOutcome
from relab.telemetry.overview_models import FailingTool, MetricsOverview, TokenSums
from relab.telemetry.prices import PriceTable, estimate
from relab.telemetry.tables import FormerRun, StoredRun

MINUTE_US: Final = 60_000_000
HOUR_US: Final = 3_600_000_000
BUCKET_LENGTHS_US: Final = (MINUTE_US, HOUR_US)
NANO: Final = 1_000_000_000
MAX_TOOLS: Final = 500
MAX_TOP_TOOLS: Final = 10
OTHER_TOOLS: Final = "(other tools)"
"""The name under which the failures of all tools beyond a maximum are counted, so that many tool names cannot make a row grow without
limit."""
TOKEN_KINDS: Final = tuple(TokenSums.model_fields)
_WIDTH: Final = len(BilledTokens._fields)
MAX_MODEL_GROUPS: Final = 200
"""The maximum number of combinations of models whose tokens are counted in a bucket. The cost of runs with other ones is not estimated."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """The values that one run adds to the sums of the hour and the minute in which it started.

    Attributes:
        started_at: the start of the run, in microseconds since 1970.
        cost_usd: the reported cost of the run; None if none was reported.
        tool_stats: `{tool: [number of calls, number of failed calls]}`.
        latencies_ms: the latencies of the run's steps.
        tokens: the number of tokens of each kind, in the order of `TOKEN_KINDS`; None for a number that was not
            reported.
        models: `[provider, model, prompt, cached, cache_write, completion]` of each model, with numbers of tokens;
            empty if the name or the tokens of any model of the run are not known.
        is_agent_run: false for a trace without agent activity; such a trace is not added to the sums.
    """

    started_at: int
    status: str
    outcome: str
    cost_usd: float | None
    tool_stats: Mapping[str, Iterable[int]]
    latencies_ms: list[float]
    tokens: Sequence[int | None] = ()
    models: Sequence[Sequence[Any]] = ()
    is_agent_run: bool = True

    @classmethod
    def of(cls, run: StoredRun | FormerRun, latencies_ms: list[float]) -> Contribution:
        """Return the values that a run adds to the sums over runs.

        `latencies_ms` are the latencies of the run's steps.
        """
        usage = from_json(run.token_usage or "{}")
        return cls(
            run.started_at,
            run.status,
            run.outcome,
            run.total_cost_usd,
            from_json(run.tool_stats),
            latencies_ms,
            usage.get("sums", ()),
            usage.get("models") or (),
            is_agent_run=run.outcome_rule != OutcomeRule.NO_AGENT_ACTIVITY,
        )


@dataclass(slots=True)
class Sums:
    """The sums over the runs that started in one hour or one minute.

    Attributes:
        runs: `{status: [number of runs, cost in nano-dollars]}`.
        outcomes: `{outcome: [number of runs, number of runs without a reported cost]}`.
        failures: `{tool: number of failed calls}`.
        latencies: `{histogram bucket: number of steps}`.
        tokens: `{kind of token: [number of runs that report it, tokens]}`.
        unpriced: `{models: numbers}` of the runs without a reported cost. A key is a combination of models that a run
            used, as the JSON of `[[provider, model], …]`. A value is a list: first the number of runs, and then, for
            each model of the key, its numbers of prompt, cached, cache-write and completion tokens.
    """

    runs: dict[str, list[int]] = field(default_factory=dict)
    outcomes: dict[str, list[int]] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    latencies: dict[int, int] = field(default_factory=dict)
    tokens: dict[str, list[int]] = field(default_factory=dict)
    # A run of several models has its own entry, so that the number of runs with an estimate is exact.
    unpriced: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Sums:
        """Return the sums in `data`, a JSON object from `dump`; absent entries are zero."""
        return cls(
            {status: list(entry) for status, entry in data.get("runs", {}).items()},
            {outcome: list(entry) for outcome, entry in data.get("outcomes", {}).items()},
            dict(data.get("failures", {})),
            {int(bucket): count for bucket, count in data.get("latencies", {}).items()},
            {kind: list(entry) for kind, entry in data.get("tokens", {}).items()},
            {models: list(entry) for models, entry in data.get("unpriced", {}).items()},
        )

    def dump(self) -> dict[str, Any]:
        """Return the sums as a JSON object without zero entries; `read` converts this object back."""
        return {
            "runs": {status: entry for status, entry in self.runs.items() if any(entry)},
            "outcomes": {outcome: entry for outcome, entry in self.outcomes.items() if any(entry)},
            "failures": {tool: count for tool, count in self.failures.items() if count},
            "latencies": {str(bucket): count for bucket, count in self.latencies.items() if count},
            "tokens": {kind: entry for kind, entry in self.tokens.items() if any(entry)},
            "unpriced": {models: entry for models, entry in self.unpriced.items() if any(entry)},
        }

    def count(self, run: Contribution, sign: int) -> None:
        """Add a run to the sums (`sign` 1), or subtract it (`sign` -1)."""
        entry = self.runs.setdefault(run.status, [0, 0])
        entry[0] += sign
        entry[1] += sign * round((run.cost_usd or 0.0) * NANO)
        entry = self.outcomes.setdefault(run.outcome, [0, 0])
        entry[0] += sign
        entry[1] += sign * (run.cost_usd is None)
        for tool, (_, failed) in run.tool_stats.items():
            if failed:
                self.failures[tool] = self.failures.get(tool, 0) + sign * failed
        for kind, tokens in zip(TOKEN_KINDS, run.tokens, strict=False):
            if tokens is not None:
                _add_up(self.tokens, kind, (sign, sign * tokens))
        if run.cost_usd is None and run.models:
            names = to_json([model[:2] for model in run.models]).decode()
            _add_up(self.unpriced, names, (sign, *(sign * count for model in run.models for count in model[2:])))
        latencies = self.latencies
        for latency in run.latencies_ms:
            bucket = bucket_of(latency)
            latencies[bucket] = latencies.get(bucket, 0) + sign

    @property
    def step_count(self) -> int:
        """The number of steps whose latency is known."""
        return sum(self.latencies.values())

    def overview(
        self, prices: PriceTable, latencies_ms: list[float] | None = None, *, unprojected_runs: int = 0
    ) -> MetricsOverview:
        """Return the figures of `GET /metrics/overview`, computed from these sums.

        Args:
            prices: the prices of models, to estimate the costs of runs without a reported cost.
            latencies_ms: the latencies of all steps, ascending, for an exact 95th percentile. If None, the percentile
                is computed from the sums, with an error of up to 1 %.
            unprojected_runs: the number of runs whose newest spans are not in these sums yet.
        """
        outcomes = {outcome: self.outcomes.get(outcome, [0, 0])[0] for outcome in RunOutcome}
        succeeded = outcomes[RunOutcome.SUCCEEDED]
        ended = sum(outcomes.values()) - outcomes[RunOutcome.UNKNOWN]
        p95 = quantile(self.latencies, 0.95)
        if latencies_ms is not None:
            p95 = latencies_ms[math.ceil(0.95 * len(latencies_ms)) - 1] if latencies_ms else None
        # Ties are sorted by name, so that the same data always gives the same list.
        failures = sorted((item for item in self.failures.items() if item[1] > 0), key=lambda item: (-item[1], item[0]))
        total_runs = sum(count for count, _ in self.runs.values())
        without_cost = sum(unpriced for _, unpriced in self.outcomes.values())
        estimated = self._estimate(prices)
        return MetricsOverview(
            total_runs=total_runs,
            success_rate=round(100 * succeeded / ended, 2) if ended else None,
            top_failing_tools=[FailingTool(tool=tool, count=count) for tool, count in failures[:MAX_TOP_TOOLS]],
            p95_step_latency_ms=p95,
            total_cost_usd=round(sum(cost for _, cost in self.runs.values()) / NANO, 6)
            if total_runs > without_cost
            else None,
            outcomes=outcomes,
            runs_without_cost=without_cost,
            estimated_cost_usd=round(estimated.usd, 6) if estimated.runs else None,
            prices_as_of=estimated.prices_as_of,
            # Beyond `MAX_MODEL_GROUPS`, a subtracted run may have been left out, so that there are too many estimates.
            runs_without_estimate=max(without_cost - estimated.runs, 0),
            tokens=TokenSums(
                **{kind: entry[1] if (entry := self.tokens.get(kind, [0, 0]))[0] else None for kind in TOKEN_KINDS}
            ),
            unprojected_runs=unprojected_runs,
        )

    def _estimate(self, prices: PriceTable) -> _Estimated:
        """Return the estimated cost of the runs without a reported cost, computed with the prices in `prices`."""
        runs, costs, dates = 0, [], []
        for names, (count, *tokens) in self.unpriced.items():
            models = [
                (provider, model, BilledTokens(*tokens[start : start + _WIDTH]))
                for start, (provider, model) in zip(range(0, len(tokens), _WIDTH), from_json(names), strict=True)
            ]
            # A negative number shows that a run was left out when it was added, and not when it was subtracted.
            found = estimate(models, prices) if count > 0 and min(tokens) >= 0 else None
            if found is not None and found.total_cost_usd is not None and found.prices_as_of is not None:
                runs += count
                costs.append(found.total_cost_usd)
                dates.append(found.prices_as_of)
        return _Estimated(runs, math.fsum(costs), min(dates, default=None))

    def add(self, other: Sums, *, most_tools: int | None = None) -> None:
        """Add `other` to these sums, in place. The values of `other` may be negative, for example for deleted runs.

        Args:
            other: the sums to add.
            most_tools: the maximum number of tools with their own count in `failures`, whether it is positive or
                negative; all further tools share one count. None means no limits. Any number also limits `unpriced` to
                `MAX_MODEL_GROUPS` keys; new keys beyond this limit are left out.
        """
        for own, others in ((self.runs, other.runs), (self.outcomes, other.outcomes)):
            for name, (first, second) in others.items():
                entry = own.setdefault(name, [0, 0])
                entry[0] += first
                entry[1] += second
        for kind, counts in other.tokens.items():
            _add_up(self.tokens, kind, counts)
        for names, counts in other.unpriced.items():
            has_room = most_tools is None or len(self.unpriced) < MAX_MODEL_GROUPS
            if has_room or names in self.unpriced:
                _add_up(self.unpriced, names, counts)
        for tool, count in other.failures.items():
            self._add_failures(tool, count, most_tools)
        for bucket, count in other.latencies.items():
            self.latencies[bucket] = self.latencies.get(bucket, 0) + count

    def _add_failures(self, tool: str, count: int, most_tools: int | None) -> None:
        named = self.failures.get(tool, 0)
        if most_tools is not None:
            others = self.failures.get(OTHER_TOOLS, 0)
            if named + count < 0 and others > 0:
                # Some of these failures were counted under `OTHER_TOOLS`, when there was no room for the name.
                self.failures[OTHER_TOOLS] += named + count
                count = -named
            elif named == 0 and len(self.failures) >= most_tools:
                tool, named = OTHER_TOOLS, others
        if named + count:
            self.failures[tool] = named + count
        else:
            self.failures.pop(tool, None)


class _Estimated(NamedTuple):
    """The estimated cost of runs: the number of these runs, the sum in USD, and the date of the oldest price used."""

    runs: int
    usd: float
    prices_as_of: str | None


def _add_up(sums: dict[str, list[int]], name: str, counts: Sequence[int]) -> None:
    entry = sums.get(name)
    sums[name] = list(counts) if entry is None else [old + new for old, new in zip(entry, counts, strict=True)]


BucketKey = tuple[int, int]
"""`(length, start)` of a bucket, in microseconds."""


@dataclass(slots=True)
class Changes:
    """The changes that one transaction makes to the sums over runs, as `{start of the minute: sums to add}`."""

    minutes: dict[int, Sums] = field(default_factory=dict)

    def subtract(self, run: FormerRun, latencies_ms: list[float]) -> None:
        """Subtract a stored run from the sums.

        Nothing is changed if the run was never computed from its spans, because it is not in the sums. `latencies_ms`
        are the latencies of the run's steps.
        """
        if run.is_counted:
            self.count(Contribution.of(run, latencies_ms), -1)

    def count(self, run: Contribution, sign: int) -> None:
        """Add a run to the sums of the minute in which it started (`sign` 1), or subtract it (`sign` -1).

        Nothing is changed for a trace without agent activity, because such traces are not in the sums.
        """
        if not run.is_agent_run:
            return
        minute = run.started_at - run.started_at % MINUTE_US
        sums = self.minutes.get(minute)
        if sums is None:
            sums = self.minutes[minute] = Sums()
        sums.count(run, sign)

    def by_bucket(self) -> dict[BucketKey, Sums]:
        """Return `{(length, start) of a bucket: sums to add}`, to change the stored sums.

        A bucket is a minute or an hour. The length is in microseconds, and the start in microseconds since 1970.
        """
        buckets: dict[BucketKey, Sums] = {}
        for minute, sums in self.minutes.items():
            buckets[(MINUTE_US, minute)] = sums
            buckets.setdefault((HOUR_US, minute - minute % HOUR_US), Sums()).add(sums)
        return buckets


def window(since_us: int, until_us: int) -> list[tuple[int, int, int]]:
    """Split the time from `since_us` to `until_us` into a range of whole hours, and ranges of minutes at both ends.

    A range is `(length of one bucket, start of the range, end of the range)`, in microseconds. A bucket is an hour or a
    minute. The first and the last minute are included as a whole, even if the time contains only a part of them. If the
    time contains no whole hour, the result is one range of minutes.
    """
    first = since_us - since_us % MINUTE_US
    end = until_us - until_us % MINUTE_US + MINUTE_US
    first_hour = -(-first // HOUR_US) * HOUR_US
    end_hour = end // HOUR_US * HOUR_US
    if first_hour >= end_hour:
        return [(MINUTE_US, first, end)]
    # Hour buckets cover the whole hours, minute buckets the rest.
    return [(MINUTE_US, first, first_hour), (HOUR_US, first_hour, end_hour), (MINUTE_US, end_hour, end)]
