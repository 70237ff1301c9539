"""Posted notices of other contexts: receivers get each once, with the same retries as notices of incidents."""

from __future__ import annotations

from pathlib import Path

from contract.notices.test_sending import now_us, wait_for, wait_for_state
from relab.incidents.notices.models import NewNotice
from relab.incidents.notices.outbox import Outbox
from relab.storage import Database
from rig.waiting import wait_until
from support.notices.receivers import Answer, loopback_receiver
from support.notices.senders import sending, to_both, to_slack


def posted(seq: int, *, pages: bool = False, headline: str = "asked-twice: It asks twice") -> NewNotice:
    return NewNotice(
        topic="behaviour asked-twice",
        seq=seq,
        at_us=now_us(),
        target="shop-agent",
        title="A run shows a behaviour",
        headline=headline,
        details=(("run", "run-1 <!channel>"),),
        pages=pages,
    )


def test_posted_notice_is_sent_once_and_to_pagerduty_only_if_it_pages(
    shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    with (
        loopback_receiver() as slack,
        loopback_receiver() as pager,
        sending(shared_url, tmp_path, to_both(slack, pager)) as service,
    ):
        wait_until(lambda: len(Outbox(notices_database).states()) == 2, what="both receivers")
        for seq in (1, 1, 2):
            service.post(posted(seq, pages=seq == 2))
        wait_for_state(notices_database, "slack", sent=2)
        wait_for_state(notices_database, "pagerduty", sent=1)
    assert [each.key for each in slack.received] == ["behaviour asked-twice:1", "behaviour asked-twice:2"]
    assert "<!channel>" not in str(slack.received[0].document)
    assert pager.received[0].document["dedup_key"] == "behaviour asked-twice"


def test_posted_notice_is_retried_until_the_receiver_accepts_it(
    shared_url: str, notices_database: Database, tmp_path: Path
) -> None:
    with (
        loopback_receiver(Answer(503), Answer(503)) as slack,
        sending(shared_url, tmp_path, to_slack(slack)) as service,
    ):
        wait_until(lambda: Outbox(notices_database).states(), what="the receiver")
        service.post(posted(1))
        wait_for_state(notices_database, sent=1, attempts=0)
        wait_for(slack, 3)
    assert {each.key for each in slack.received} == {"behaviour asked-twice:1"}
