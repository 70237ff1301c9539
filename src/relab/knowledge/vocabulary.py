"""Prepare words for the search: drop stop words, and replace synonyms of IT operations with one word. Pure.

For example, a runbook says "cache", and a log says "Redis" for the same thing. Only names and abbreviations of the same
thing are synonyms. Words that are merely related, such as "slow" and "latency", are not. If they were synonyms, every
query would match every runbook.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+")

_SAME: Final = {
    "database": "db postgres postgresql pg postmaster sql",
    "cache": "redis valkey memcached",
    "memory": "ram rss heap",
    "cpu": "core cores processor processors",
    "disk": "volume filesystem enospc",
    "descriptor": "fd fds handle handles emfile enfile",
    "network": "path wire link line",
    "latency": "lag laggy delay delayed delays",
    "bandwidth": "throughput",
    "refused": "econnrefused refusal rejected rejects",
    "reset": "econnreset rst torn",
    "timeout": "etimedout timeouts",
    "setting": "config configuration configured conf",
    "flag": "toggle toggled toggles",
    "password": "credential credentials secret auth authentication noauth wrongpass login",
    "crash": "died dies dead",
    "retry": "retries retried retrying",
    "traffic": "visitors visits",
    "limit": "quota cap capped ceiling",
    "stopped": "frozen sigstop hung",
    "host": "box node machine",
    "killed": "oomkilled oomkiller sigkill",
}
_CANONICAL: Final = {other: word for word, others in _SAME.items() for other in others.split()}

_NO_WORDS_TEXT = """\
a about after again all also although an and any are as at be because been before but by can cannot could did do
does each else for from get gets got had has have he her here his how i if in into is it its just may me more
most much my no not nothing now of off on once one only or other our out over own same says she should since so
some still such than that the their them then there these they this those though through to too up us was we
were what when where which while who why will with would you your
"""
_NO_WORDS: Final = frozenset(_NO_WORDS_TEXT.split())


def words(text: str) -> Iterator[str]:
    """Yield the words of a text in lower case and canonical form, without stop words."""
    for word in _WORD.findall(text.lower()):
        if word not in _NO_WORDS:
            yield _CANONICAL.get(word, word)
