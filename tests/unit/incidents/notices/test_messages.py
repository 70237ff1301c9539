"""Notices as messages for Slack and PagerDuty: within their limits, and safe with hostile text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from relab.core.errors import ConfigurationError
from relab.incidents.models import Severity
from relab.incidents.notices.channels.pagerduty import PagerDutyOptions, PageTrigger, event_of
from relab.incidents.notices.channels.registry import channels_from
from relab.incidents.notices.channels.slack import SlackOptions, message_of
from relab.incidents.notices.models import Notice, NoticeKind
from relab.incidents.notices.receivers import Receiver
from relab.incidents.notices.settings import NoticeOptions
from relab.settings import NoticeSettings
from support.incidents.acts import NOW_US
from support.notices.senders import ROUTING_KEY

HOSTILE = "<!channel> @here <https://evil.example|Approved> `*x*`\n\n*Incident resolved* &amp; " + "\U0001f600" * 5_000
NOTICE = Notice("i1", 3, NoticeKind.OPENED, NOW_US, "shop", Severity.DEGRADED, "Incident opened", "Errors are at 60 %.")
ESCALATED = replace(NOTICE, kind=NoticeKind.ESCALATED, wants_person=True, severity=Severity.CRITICAL)


def hostile(**more: Any) -> Notice:
    details = tuple((f"Name {number}", HOSTILE) for number in range(30))
    return replace(NOTICE, target=HOSTILE, headline=HOSTILE, details=details, **more)


def texts(document: Any) -> list[str]:
    """Return all strings in a JSON document."""
    if isinstance(document, str):
        return [document]
    items = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return [text for item in items for text in texts(item)]


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def page(notice: Notice, page_on: PageTrigger = PageTrigger.OPENED) -> dict[str, Any]:
    found = event_of(notice, ROUTING_KEY, page_on)
    assert found is not None
    return found


def test_message_has_the_event_its_target_and_the_commands() -> None:
    message = message_of(
        replace(
            NOTICE,
            details=(("Found", "P95 is 900 ms."),),
            commands=("/relab approve i1.1",),
            url="https://r.example/i1",
        )
    )

    assert message["text"] == "Incident opened: shop: Errors are at 60 %."
    said, answers, context = message["blocks"]
    assert said["text"]["text"] == ("*Incident opened* · degraded · shop\nErrors are at 60 %.\n_Found_: P95 is 900 ms.")
    assert answers["text"]["text"] == "Answer by one of\n`/relab approve i1.1`"
    assert (
        context["elements"][0]["text"]
        == "incident i1 · event 3 · 2027-01-15T08:00:00Z · <https://r.example/i1|show it>"
    )


def test_hostile_text_mentions_no_user_makes_no_link_and_is_valid() -> None:
    message = message_of(hostile())

    for text in texts(message):
        assert not {"<", ">"} & set(text)
        for sign in ("@here", "s://"):
            assert sign not in text
    assert message["link_names"] is False
    assert message["parse"] == "none"
    assert message["unfurl_links"] is False
    assert len(message["blocks"]) <= 50
    for block in message["blocks"]:
        for part in [block["text"]] if "text" in block else block["elements"]:
            assert part["verbatim"] is True
            assert 1 <= utf16(part["text"]) <= 3_000
            # External text starts no line that looks like one of the responder's own.
            assert sum(line.startswith("*") for line in part["text"].splitlines()) <= 1


def test_page_is_a_pagerduty_event_of_version_2() -> None:
    assert page(replace(NOTICE, details=(("Found", "a"), ("Found", "b")))) == {
        "routing_key": ROUTING_KEY,
        "event_action": "trigger",
        "dedup_key": "i1",
        "payload": {
            "summary": "Incident opened: shop: Errors are at 60 %.",
            "source": "shop",
            "severity": "error",
            "timestamp": "2027-01-15T08:00:00Z",
            "component": "shop",
            "class": "opened",
            "custom_details": {"Found": "a | b", "incident": "i1", "event": 3},
        },
        "client": "relab",
    }
    assert page(replace(NOTICE, url="https://r.example/i1"))["client_url"] == "https://r.example/i1"


def test_a_hostile_page_stays_within_limits() -> None:
    found = page(hostile(commands=("lab incidents approve i1.1",)))

    assert utf16(found["payload"]["summary"]) <= 1_024
    assert len(json.dumps(found).encode()) < 512 * 1_024
    assert found["payload"]["custom_details"]["Answer by one of"] == "lab incidents approve i1.1"
    assert not any("\n" in text or "@here" in text for text in texts(found))


@pytest.mark.parametrize(
    ("severity", "wants_person", "paged"),
    [
        (Severity.WARNING, False, "warning"),
        (Severity.DEGRADED, False, "error"),
        (Severity.CRITICAL, False, "critical"),
        (Severity.WARNING, True, "error"),
        (Severity.CRITICAL, True, "critical"),
    ],
)
def test_severity_is_mapped_to_that_of_pagerduty(severity: Severity, wants_person: bool, paged: str) -> None:
    found = page(replace(NOTICE, severity=severity, wants_person=wants_person))

    assert found["payload"]["severity"] == paged


def test_pagerduty_event_is_triggered_acknowledged_and_resolved() -> None:
    closed = replace(NOTICE, kind=NoticeKind.CLOSED, is_over=True)
    rejected = replace(NOTICE, kind=NoticeKind.DECIDED, is_taken=True)

    assert [page(each)["event_action"] for each in (NOTICE, ESCALATED, rejected, closed)] == [
        "trigger",
        "trigger",
        "acknowledge",
        "resolve",
    ]
    assert {page(each)["dedup_key"] for each in (NOTICE, ESCALATED, rejected, closed)} == {"i1"}
    for kind in (NoticeKind.DIAGNOSED, NoticeKind.ACTED, NoticeKind.DECIDED, NoticeKind.FAILED):
        assert event_of(replace(NOTICE, kind=kind), ROUTING_KEY, PageTrigger.OPENED) is None


def test_pagerduty_is_triggered_only_if_a_person_is_needed() -> None:
    assert event_of(NOTICE, ROUTING_KEY, PageTrigger.PERSON_NEEDED) is None
    assert page(ESCALATED, PageTrigger.PERSON_NEEDED)["event_action"] == "trigger"
    closed = replace(NOTICE, kind=NoticeKind.CLOSED, is_over=True)
    assert page(closed, PageTrigger.PERSON_NEEDED)["event_action"] == "resolve"


def test_incident_that_is_over_pages_no_person() -> None:
    assert event_of(replace(ESCALATED, is_stale=True), ROUTING_KEY, PageTrigger.OPENED) is None
    assert message_of(replace(ESCALATED, is_stale=True))["blocks"]


def test_secrets_are_removed_from_logs() -> None:
    url, key = "https://hooks.example/services/T0/B0/SeCrEtXyZ", "k" * 32
    receiver = Receiver("slack", "SETTING", SecretStr(url), message_of, (SecretStr(key),))

    assert receiver.without_secrets(f"POST {url}: {key}") == "POST ***: ***"
    assert receiver.without_secrets("no such services/T0/B0/SeCrEtXyZ") == "no such ***"
    assert "SeCrEt" not in repr(receiver)


@pytest.mark.parametrize(
    "url", ["hooks.example/x", "ftp://hooks.example", "http://", "http://[::1", "https://a b", "x"]
)
def test_invalid_address_is_rejected_without_quoting_it(url: str) -> None:
    for options, setting in (
        (NoticeOptions((SlackOptions(SecretStr(url)),)), "RELAB_NOTICES__SLACK_WEBHOOK_URL"),
        (NoticeOptions((PagerDutyOptions(SecretStr("k"), url, "opened"),)), "RELAB_NOTICES__PAGERDUTY_URL"),
        (NoticeOptions(public_url=url), "RELAB_NOTICES__PUBLIC_URL"),
    ):
        with pytest.raises(ConfigurationError) as refused:
            options.receivers()
        assert str(refused.value).startswith(setting)
        assert url not in str(refused.value).replace("https://host/path", "").replace(setting, "") or url == "x"


def test_no_receiver_is_notified_by_default() -> None:
    assert NoticeOptions(channels_from(dict(NoticeSettings()))).receivers() == []


def test_every_channel_reads_its_options_from_the_settings_of_the_same_name() -> None:
    given = NoticeSettings(
        slack_webhook_url=SecretStr("https://hooks.example/x"),
        pagerduty_routing_key=SecretStr("k"),
        page_on="person_needed",
    )

    found = NoticeOptions(channels_from(dict(given))).receivers()

    variables = {f"RELAB_NOTICES__{name.upper()}" for name in NoticeSettings.model_fields}
    assert sorted(each.name for each in found) == ["pagerduty", "slack"]
    assert {each.setting for each in found} <= variables
    assert next(each for each in found if each.name == "pagerduty").compose(NOTICE) is None
