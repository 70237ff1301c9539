"""Word search over runbooks and past incidents: any text is a query, and none is query syntax."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relab.knowledge.models import Hit, HitKind, Runbook
from relab.knowledge.search import search
from support.incidents.runbooks import past, runbook

LEAK = runbook(
    "connection_pool_leak",
    title="The service leaks database connections",
    symptoms=("requests wait for a connection and time out",),
    text="Other causes: a lock. Restarting helps for a while.",
)
DISK = runbook(
    "disk_full",
    title="The disk is full",
    symptoms=("nothing can be written: ENOSPC",),
    text="Deletes help, and a restart.",
)
LOCK = runbook("database_lock", title="A session holds a lock", symptoms=("orders wait",), text="A connection waits.")
BOOKS = [LEAK, DISK, LOCK]


def causes(query: str, *books: Runbook) -> list[str]:
    return [hit.cause for hit in search(query, runbooks=books or BOOKS)]


def test_words_are_found_in_any_form_and_case() -> None:
    assert causes("ENOSPC")[0] == "disk_full"
    assert causes("writing DISKS")[0] == "disk_full"
    assert causes("leaking connection")[0] == "connection_pool_leak"
    assert causes("locked sessions")[0] == "database_lock"
    assert causes("dísk") == causes("disk"), "accents do not count"


def test_title_has_more_weight_than_the_text() -> None:
    assert causes("lock")[0] == "database_lock"
    assert causes("connection_pool")[0] == "connection_pool_leak", "names are words with lines between them"


def test_past_incidents_are_found_by_facts_and_text() -> None:
    incident = past("i1", "odd_cause", {"health": "wobbly"}, {"frobnication <*> exceeded": 3}, note="The flux was low.")

    for query in ("frobnication exceeded 17", "wobbly", "flux", "odd cause"):
        hit = search(query, runbooks=BOOKS, incidents=[incident])[0]
        assert hit == Hit(HitKind.INCIDENT, "i1", "odd_cause", "odd cause", hit.score, by_words=1)


@pytest.mark.parametrize("query", ["", "  ", "_-*", "zzz unheard", '"""', "NULL"])
def test_text_without_a_common_word_is_not_a_hit(query: str) -> None:
    assert search(query, runbooks=BOOKS) == []
    assert search("disk", runbooks=[]) == search("disk", runbooks=BOOKS, limit=0) == []


@pytest.mark.parametrize(
    "query",
    [
        'disk" OR "lock',
        "disk NOT full",
        "disk AND title : zzz",
        "NEAR(disk full, 1)",
        "{title} : disk",
        "^disk*",
        "disk'); DROP TABLE documents; --",
        "-disk",
        "disk\x00full",
        "disk " * 5_000,
    ],
)
def test_query_syntax_is_treated_as_words(query: str) -> None:
    assert "disk_full" in causes(query)


@given(query=st.text())
def test_any_text_is_a_query(query: str) -> None:
    hits = search(query, runbooks=BOOKS, limit=2)

    assert len(hits) <= 2
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
