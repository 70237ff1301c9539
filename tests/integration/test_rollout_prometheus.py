"""Rollouts that judge by queries of a real Prometheus, which scrapes the service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, Histogram

from relab.bootstrap import Services
from relab.core.errors import RelabError
from relab.rollouts.errors import SubjectError, TargetUnavailableError
from relab.rollouts.models import Arm
from relab.rollouts.plans.reading import parse_plan
from relab.rollouts.record import RolloutRecord, RolloutStatus
from relab.stats.verdicts import Verdict
from rig.servers import free_port
from support.components.alerting import scraping
from support.components.required import require_program
from support.rollouts.small_service import SmallService, small_service

LIMIT_A, LIMIT_B = 10, 20
P95 = "histogram_quantile(0.95, sum by (le) (rate(request_seconds_bucket[$window])))"


class Shop:
    """A service whose requests are slow with one limit and fast with the other, and the Prometheus that scrapes it."""

    def __init__(self, service: SmallService, prometheus_url: str) -> None:
        self.service = service
        self.prometheus_url = prometheus_url


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    require_program("prometheus", ".ci/system-packages")
    registry = CollectorRegistry()
    seconds = Histogram("request_seconds", "Latency.", buckets=[0.02, 0.04, 0.06, 0.08, 0.1], registry=registry)
    with (
        small_service() as service,
        scraping(tmp_path_factory.mktemp("prometheus"), registry) as url,
    ):
        # The service reports fixed latencies, so that a busy machine cannot change a verdict.
        service.on_work = lambda: seconds.observe(0.03 if service.limit == LIMIT_B else 0.09)
        yield Shop(service, url)


@pytest.fixture(autouse=True)
def limit_before(shop: Shop) -> None:
    shop.service.limit = LIMIT_A


def run_rollout(
    shop: Shop, services: Services, folder: Path, metric: dict[str, Any], **experiment: Any
) -> RolloutRecord:
    """Run a rollout of the service's limit that is judged by this metric."""
    (folder / "mix.yaml").write_text("requests:\n  - {name: work, path: /work}\n")
    flag = {
        "kind": "http",
        "url": f"{shop.service.url}/limit",
        "body": {"limits": {"max": "$value"}},
        "pointer": "/state/max",
        "b": LIMIT_B,
    }
    document = {
        "base_url": shop.service.url,
        "timeout": 10,
        "policy": "seed",
        "experiment": {
            "qps": 40, "window_sec": 0.25, "warmup_sec": 0, "rounds": 2, "order": "abab",
            "mix": str(folder / "mix.yaml"), "request_timeout": 5, **experiment,
        },
        "subject": {"flags": flag, "metric": {"kind": "prometheus", "url": shop.prometheus_url, **metric}},
    }  # fmt: skip
    plan = parse_plan(yaml.safe_dump(document), "plan.yaml")
    return services.rollouts.run(plan, by="tester", stop=threading.Event(), on_progress=lambda _: None, root=folder)


def test_rollout_is_judged_by_the_query_of_each_window(
    shop: Shop, make_services: Callable[..., Services], tmp_path: Path
) -> None:
    # A fraction of a second tests that the query excludes the previous window, which had the other limit.
    record = run_rollout(shop, make_services(), tmp_path, {"query": P95, "delay_s": 0.4}, window_sec=2.1)

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.PASS, record.windows
    for window in record.windows:
        assert window.metric is not None
        low, high = (0.02, 0.04) if window.arm is Arm.B else (0.08, 0.1)
        assert low < window.metric <= high
    assert shop.service.limit == LIMIT_B


@pytest.mark.parametrize(
    "query", ["no_such_metric", "vector(0) / 0", "1 / vector(0)"], ids=["empty", "nan", "infinite"]
)
def test_query_without_a_value_is_missing_data(
    shop: Shop, make_services: Callable[..., Services], tmp_path: Path, query: str
) -> None:
    record = run_rollout(shop, make_services(), tmp_path, {"query": query})

    assert record.judgement is not None
    assert record.judgement.verdict is Verdict.INVALID
    assert "no value" in record.judgement.reason
    assert [window.metric for window in record.windows] == [None] * len(record.windows)
    assert record.flags_restored
    assert shop.service.limit == LIMIT_A


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("label_replace(vector(1), 'a', 'b', '', '') or vector(2)", "returns 2 series"),
        ("up[5m]", "returns a matrix"),
        ("'text'", "returns a string"),
        ("sum(", "Prometheus rejects the query"),
        ("no_such_function(up)", "Prometheus rejects the query"),
    ],
)
def test_invalid_query_is_reported_before_the_first_change(
    shop: Shop, make_services: Callable[..., Services], tmp_path: Path, query: str, message: str
) -> None:
    services = make_services()

    with pytest.raises(SubjectError, match=message) as raised:
        run_rollout(shop, services, tmp_path, {"query": query})

    assert query in raised.value.message
    assert_failed(services, raised.value)
    assert shop.service.limit == LIMIT_A


def test_unavailable_prometheus_is_reported_before_the_first_change(
    shop: Shop, make_services: Callable[..., Services], tmp_path: Path
) -> None:
    services = make_services()
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(TargetUnavailableError, match=url) as raised:
        run_rollout(shop, services, tmp_path, {"query": P95, "url": url})

    assert_failed(services, raised.value)
    assert shop.service.limit == LIMIT_A


def assert_failed(services: Services, error: RelabError) -> None:
    """Check that the stored rollout has failed with this error before its first change, so that nothing was restored."""
    (listed,) = services.rollouts.list_rollouts().items
    record = services.rollouts.get(listed.rollout_id)
    assert record.status is RolloutStatus.FAILED
    assert error.message in (record.error or "")
    assert record.windows == ()
    assert record.flags_restored is None
