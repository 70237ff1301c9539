"""Flag targets of every kind, each with an accepted and a rejected change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relab.bootstrap import Services
from relab.flags.models import FlagContent
from relab.rollouts.plans.subject import HttpFlagSubject, ProductFlagSubject, ServiceFlagsSubject
from relab.rollouts.targets.http_flag import HttpFlagTarget
from relab.rollouts.targets.product_flag import ProductFlagTarget
from relab.rollouts.targets.protocol import FlagTarget
from relab.rollouts.targets.service_flags import ServiceFlagsTarget
from support.lab.process import lab_environment
from support.rollouts.rollout_lab import RolloutLab
from support.rollouts.small_service import SmallService, small_service


@dataclass
class Case:
    """A flag target with a change that it accepts, and one that it rejects.

    Attributes:
        rejecting: the target that rejects `rejected`; it equals `target` unless `target` accepts every value.
        outside: makes another change, as another client would.
        environment: the environment variables of the printed command.
        set_forgetful: makes the target accept changes without making them; None if the target cannot do this.
    """

    target: FlagTarget
    change: Any
    rejected: Any
    rejecting: FlagTarget
    outside: Callable[[], None]
    set_forgetful: Callable[[], None] | None
    environment: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def lab(make_services: Callable[..., Services], tmp_path: Path) -> Iterator[RolloutLab]:
    """An installation with one small service."""
    with small_service() as service:
        yield RolloutLab(make_services(), service, tmp_path)


@pytest.fixture(params=["service", "http", "product_flag"])
def case(request: pytest.FixtureRequest, make_services: Callable[..., Services]) -> Iterator[Case]:
    """A case of each kind of flag target."""
    if request.param == "product_flag":
        yield _product_flag(make_services())
        return
    with small_service() as service:
        yield _service(service) if request.param == "service" else _http(service)


def _service(service: SmallService) -> Case:
    target = ServiceFlagsTarget(service.url, ServiceFlagsSubject(), {}, timeout_s=5.0)
    return Case(
        target=target,
        change={"control": {"max_concurrency": 4, "enabled_actuators": []}, "routing": {"enabled": False}},
        rejected={"control": {"knob": 1}},
        rejecting=target,
        outside=lambda: _require_accepted(service.change({"control": {"target_p95_ms": 7}}, None)),
        set_forgetful=lambda: setattr(service, "forgets", True),
    )


def _http(service: SmallService) -> Case:
    subject = HttpFlagSubject(
        kind="http",
        url=f"{service.url}/limit",
        body={"limits": {"max": "$value"}},
        pointer="/state/max",
        version_pointer="/version",
        b=20,
    )
    target = HttpFlagTarget(subject, {}, timeout_s=5.0)
    # The service accepts every value; it rejects only a body of another form.
    rejecting = HttpFlagTarget(subject.model_copy(update={"body": "$value"}), {}, timeout_s=5.0)
    return Case(
        target=target,
        change=20,
        rejected=30,
        rejecting=rejecting,
        outside=lambda: _require_accepted(service.set_limit({"limits": {"max": 11}}, None)),
        set_forgetful=lambda: setattr(service, "forgets", True),
    )


def _product_flag(services: Services) -> Case:
    content = FlagContent.model_validate(
        {
            "value_type": "boolean",
            "variants": {"on": True, "off": False},
            "default_variant": "off",
            "description": "Some shells replace \\n by a line end, even in 'quotes'.",
        }
    )
    services.flags.create("checkout.search", content, author="test")
    subject = ProductFlagSubject(kind="product_flag", key="checkout.search", a="off", b="on")
    target = ProductFlagTarget(services.flags, subject)
    other = content.model_copy(update={"description": "by another client"})
    return Case(
        target=target,
        change=target.share_of(target.read(), 25),
        rejected={"value_type": "boolean", "variants": {}, "default_variant": "x"},
        rejecting=target,
        outside=lambda: _require_accepted(services.flags.update("checkout.search", other, expected=None, author="me")),
        set_forgetful=None,
        environment=lab_environment(services.settings.home, {}),
    )


def _require_accepted(answer: object) -> None:
    assert not isinstance(answer, tuple) or answer[0] in {200, 204}
