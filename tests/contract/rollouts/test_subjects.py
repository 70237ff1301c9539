"""Rollouts of other subjects: a single flag over HTTP, a flag of this product in steps, and a service's own traffic."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from relab.bootstrap import Services
from relab.flags.models import FlagContent
from relab.rollouts.errors import FlagsChangedError
from relab.rollouts.models import Arm
from relab.rollouts.plans.reading import parse_plan
from relab.rollouts.record import RolloutRecord, RolloutStatus
from relab.stats.verdicts import Verdict
from support.rollouts.small_service import SmallService, small_service

KEY = "checkout.search"
SLOW_S, FAST_S = 0.3, 0.005


class Shop:
    """A service that reads a flag of this product for each user, in one process with the product."""

    def __init__(self, services: Services, service: SmallService, folder: Path) -> None:
        self.services = services
        self.service = service
        self.folder = folder
        self.stop = threading.Event()
        content = {"value_type": "boolean", "variants": {"on": True, "off": False}, "default_variant": "off"}
        services.flags.create(KEY, FlagContent.model_validate(content), author="test")
        (folder / "mix.yaml").write_text(
            "values:\n  user: {kind: sequence}\nrequests:\n  - {name: work, path: /work, query: {user: '{user}'}}\n"
        )

    def variant(self, user: str) -> str:
        return self.services.flags.evaluate(KEY, {"targetingKey": user}).variant

    def share_pct(self) -> float:
        """Return the share of users in arm B, from the flag's rule; 0 without one."""
        rules = self.services.flags.get(KEY).content.rules
        if not rules:
            return 0.0
        serve = rules[0].serve
        return serve.split[0].weight_bp / 100 if serve.split else 100.0 * (serve.variant == "on")

    def run(self, subject: dict[str, Any], experiment: dict[str, Any], **fields: Any) -> RolloutRecord:
        document = {
            "base_url": self.service.url,
            "timeout": 2,
            "policy": "seed",
            "experiment": {"window_sec": 0.25, "warmup_sec": 0, "rounds": 2, **experiment},
            "subject": subject,
            **fields,
        }
        plan = parse_plan(yaml.safe_dump(document), "plan.yaml")
        return self.services.rollouts.run(
            plan, by="tester", stop=self.stop, on_progress=lambda _: None, root=self.folder
        )

    def load(self) -> dict[str, Any]:
        return {"qps": 60, "order": "abab", "mix": str(self.folder / "mix.yaml"), "request_timeout": 2}


def user_in(path: str) -> str:
    return parse_qs(urlsplit(path).query)["user"][0]


@pytest.fixture
def shop(make_services: Callable[..., Services], tmp_path: Path) -> Iterator[Shop]:
    with small_service() as service:
        yield Shop(make_services(), service, tmp_path)


FLAG = {"kind": "product_flag", "key": KEY, "a": "off", "b": "on"}


def test_canary_gives_arm_b_to_a_growing_share(shop: Shop) -> None:
    shares: list[float] = []
    seen: dict[float, set[str]] = {}

    def answer(path: str) -> tuple[float, int]:
        share, variant = shop.share_pct(), shop.variant(user_in(path))
        shares.append(share)
        seen.setdefault(share, set()).add(variant)
        return (FAST_S if variant == "on" else SLOW_S), 200

    shop.service.answer = answer
    shop.service.figures = lambda _path: {"p95": 20.0 if shop.share_pct() == 100 else 100.0}
    metric = {"kind": "json", "url": f"{shop.service.url}/figures?arm=$arm", "pointer": "/p95"}
    guard = {"max_error_rate": 5, "max_delta_p95": 1_000}
    record = shop.run(
        {"flags": FLAG, "metric": metric}, shop.load(), canary={"steps": [10, 50, 100], "step_sec": 0.4, "guard": guard}
    )

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS, record.judgement
    assert record.application is not None
    assert record.application.applied, record.application
    steps = [share for share, former in zip(shares, [None, *shares], strict=False) if share != former]
    assert steps == [0, 100, 0, 100, 10, 50, 100]
    assert seen[50] == {"on", "off"}
    assert {shop.variant(f"user-{number}") for number in range(50)} == {"on"}


def test_flag_that_an_operator_changes_in_the_last_step_is_not_announced(shop: Shop) -> None:
    before = shop.services.flags.get(KEY).content
    shares: list[float] = []

    def answer(_path: str) -> tuple[float, int]:
        share = shop.share_pct()
        if share == 100 and 50 in shares and not shares.count(-1):
            shares.append(-1)
            shop.services.flags.update(KEY, before, expected=None, author="operator")
        shares.append(share)
        return FAST_S, 200

    shop.service.answer = answer
    shop.service.figures = lambda _path: {"p95": 20.0 if shop.share_pct() == 100 else 100.0}
    metric = {"kind": "json", "url": f"{shop.service.url}/figures?arm=$arm", "pointer": "/p95"}
    guard = {"max_error_rate": 5, "max_delta_p95": 1_000}

    with pytest.raises(FlagsChangedError):
        shop.run({"flags": FLAG, "metric": metric}, shop.load(), canary={"step_sec": 0.4, "guard": guard})

    (record,) = shop.services.rollouts.list_rollouts().items
    assert record.status is RolloutStatus.FAILED
    assert record.application is None
    assert shop.services.flags.get(KEY).content == before


def test_guard_rolls_a_canary_back(shop: Shop) -> None:
    before = shop.services.flags.get(KEY).content

    def answer(path: str) -> tuple[float, int]:
        share, variant = shop.share_pct(), shop.variant(user_in(path))
        # Arm B fails only while both arms are served, which no window measures.
        broken = variant == "on" and 10 < share < 100
        return (FAST_S if variant == "on" else SLOW_S), 500 if broken else 200

    shop.service.answer = answer
    record = shop.run(
        {"flags": FLAG},
        shop.load(),
        canary={"steps": [10, 50, 100], "step_sec": 0.4, "guard": {"max_delta_p95": 1_000}},
    )

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS
    assert record.application is not None
    assert not record.application.applied
    assert record.application.message.startswith("The canary was rolled back at 50 %: The error rate was")
    assert record.flags_restored
    assert shop.services.flags.get(KEY).content == before


def test_stopped_canary_is_an_interrupted_rollout(shop: Shop) -> None:
    before = shop.services.flags.get(KEY).content

    def answer(path: str) -> tuple[float, int]:
        if 0 < shop.share_pct() < 100:
            shop.stop.set()
        return (FAST_S if shop.variant(user_in(path)) == "on" else SLOW_S), 200

    shop.service.answer = answer
    record = shop.run({"flags": FLAG}, shop.load(), canary={"steps": [10, 100], "step_sec": 0.4})

    assert record.status is RolloutStatus.INTERRUPTED
    assert record.application is not None
    assert not record.application.applied
    assert record.flags_restored
    assert shop.services.flags.get(KEY).content == before


def test_own_traffic_is_measured_in_both_arms_at_the_same_time(shop: Shop) -> None:
    asked: list[tuple[str, float]] = []

    def figures(path: str) -> dict[str, Any]:
        arm = parse_qs(urlsplit(path).query)["arm"][0]
        asked.append((arm, shop.share_pct()))
        return {"p95": 20.0 if arm == "on" else 100.0, "requests": 500, "errors": 0}

    shop.service.figures = figures
    metric = {
        "kind": "json",
        "url": f"{shop.service.url}/figures?arm=$arm&from=$start&to=$end",
        "pointer": "/p95",
        "requests": "/requests",
        "errors": "/errors",
    }
    record = shop.run({"flags": FLAG, "live": True, "metric": metric}, {})

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS, record.judgement
    before, *measured = asked
    assert before == ("off", 0.0)
    assert sorted(measured) == [("off", 50.0), ("off", 50.0), ("on", 50.0), ("on", 50.0)]
    assert [window.metric for window in record.windows if window.arm is Arm.B] == [20.0, 20.0]
    assert shop.share_pct() == 100.0


def test_own_traffic_without_a_figure_is_invalid(shop: Shop) -> None:
    before = shop.services.flags.get(KEY).content
    shop.service.figures = lambda _path: {"requests": 500, "errors": 0}
    metric = {
        "kind": "json",
        "url": f"{shop.service.url}/figures?arm=$arm",
        "pointer": "/p95",
        "requests": "/requests",
        "errors": "/errors",
    }
    record = shop.run({"flags": FLAG, "live": True, "metric": metric}, {}, policy="statistical")

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.INVALID
    assert shop.services.flags.get(KEY).content == before


def test_single_flag_over_http_is_applied(shop: Shop) -> None:
    service = shop.service
    service.answer = lambda _path: (FAST_S if service.limit == 20 else SLOW_S, 200)
    flag = {
        "kind": "http",
        "url": f"{service.url}/limit",
        "body": {"limits": {"max": "$value"}},
        "pointer": "/state/max",
        "version_pointer": "/version",
        "b": 20,
    }
    record = shop.run({"flags": flag}, shop.load())

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS, record.judgement
    assert service.limit == 20
    assert record.rollback_command is not None
    assert '"max": 10' in record.rollback_command


def test_arm_a_of_a_queued_plan_has_the_value_from_before_the_rollout(shop: Shop) -> None:
    service = shop.service
    service.answer = lambda _path: (FAST_S, 200)
    seen: list[Any] = []
    service.on_work = lambda: seen.append(service.limit)
    flag = {"kind": "http", "url": f"{service.url}/limit", "body": {"limits": {"max": "$value"}}}
    document = {
        "base_url": service.url,
        "timeout": 2,
        "experiment": {"qps": 60, "window_sec": 0.25, "warmup_sec": 0, "rounds": 2, "mix": "browse"},
        "subject": {"flags": {**flag, "pointer": "/state/max", "b": 20}},
    }
    queued = shop.services.rollouts.request(parse_plan(yaml.safe_dump(document), "plan.yaml"), by="api")

    record = shop.services.rollouts.execute(queued.rollout_id, threading.Event())

    assert record.changes == {Arm.A: 10, Arm.B: 20}
    assert set(seen) == {10, 20}
    assert service.limit == 10


def test_metric_without_a_value_ends_the_measurement(shop: Shop) -> None:
    shop.service.figures = lambda _path: {"p99": 20}
    metric = {"kind": "json", "url": f"{shop.service.url}/figures", "pointer": "/p95"}

    record = shop.run({"flags": FLAG, "metric": metric}, {**shop.load(), "rounds": 8})

    assert [window.duration_s > 0 for window in record.windows] == [True, False]
    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.INVALID
    assert f"{shop.service.url}/figures has no number at '/p95'." in record.judgement.reason
    assert [remedy.partition(":")[0] for remedy in record.judgement.remedies] == ["Window 1 (arm A)"]
    assert "`pointer` in `subject.metric`" in record.judgement.remedies[0]
    assert record.flags_restored
