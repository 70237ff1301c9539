"""Decide by the names of tools which tool calls changed something.

A run reports what a tool returned, not whether it changed anything. In most APIs, the verb in the tool's name says
whether it does, as in `update_order` and `getOrder`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice


def _verbs(words: str) -> frozenset[str]:
    return frozenset(words.split())


_CHANGING = _verbs(
    "add apply approve archive assign book buy cancel change charge checkout close commit confirm create debit delete"
    " deploy disable drop edit enable exchange grant insert install invite merge modify move patch pay place post publish"
    " purchase push put refund register reject release remove rename replace reply reschedule reserve reset restart"
    " return revoke rollback save schedule send set share submit subscribe transfer uninstall unsubscribe update upgrade"
    " upload withdraw write"
)
_READING = _verbs(
    "analyse analyze ask browse calculate check compare compute count describe download estimate evaluate explain fetch"
    " find get inspect list load look lookup parse plan query read retrieve scan search show summarise summarize think"
    " validate verify view visit"
)
_READING_AT_END = _verbs("describe fetch find get list lookup read retrieve search")
_NO_NOUNS = _CHANGING - _verbs(
    "book change charge commit exchange invite merge patch post purchase push refund register release reply reserve return"
    " schedule set share transfer upgrade"
)
"""The changing verbs of a name that ends with a verb of `_READING_AT_END`: in `book_search`, `book` is a noun."""

_PROPERTIES = _verbs("detail details history info policy price quote rate rates status summary")
_THINGS = _verbs(
    "book charge commit exchange invite merge purchase refund release reply reserve return schedule transfer"
)
"""Verbs that are nouns in a name that ends with a word of `_PROPERTIES`: `exchange_rate` only reads."""

_ADDED = _CHANGING - {"return"}
"""The changing verbs after `and`: `find_and_replace` changes something, `find_and_return` does not."""

MAX_CALLS = 20
"""The maximum number of calls that are read of one text; a message asks for fewer."""

_SEPARATOR = re.compile(r"__|[./:]")
_HAND_OFF = re.compile(r"transfer_(?:back_)?to_(?!human|person)")
"""The beginning of the tools by which frameworks pass a conversation to another agent."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_CALLED_NAME = re.compile(r'"(?:name|tool|tool_name|function)"\s{0,4}:\s{0,4}"(?P<name>[A-Za-z][\w.-]{1,80})"')
_CALLED_WITH = re.compile(r'"(?:arguments|args|parameters|kwargs|input)"\s{0,4}:')


@lru_cache(maxsize=4096)
def changes_something(tool_name: str) -> bool:
    """Return whether a tool changes something, by its name: true for `order.updateAddress`, because of `update`.

    The name is split into parts at `.`, `/`, `:` and `__`. The last part with a known verb decides. The tool changes
    something if the first known verb of this part means a change, or if `and` with such a verb follows it, as in
    `get_and_update`. Return False if the name has no known verb, as in `python`, or if the tool only passes the
    conversation to another agent.
    """
    for part in reversed(_SEPARATOR.split(tool_name)):
        words = [word.lower() for word in _WORD.findall(part)]
        changing = _changing_verbs(words[-1] if words else "")
        verbs = [index for index, word in enumerate(words) if word in _READING or word in changing]
        if verbs:
            added = words[verbs[0] + 1 : verbs[0] + 3]
            is_change = words[verbs[0]] in changing or (added[:1] == ["and"] and added[-1] in _ADDED)
            return is_change and _HAND_OFF.match(part) is None
    return False


def _changing_verbs(last: str) -> frozenset[str]:
    """Return the verbs that mean a change in a tool name whose last word is `last`.

    Verbs that are nouns before this word are left out: `book` is left out for `search`, because of `book_search`.
    """
    if last in _READING_AT_END:
        return _NO_NOUNS
    return _CHANGING - _THINGS if last in _PROPERTIES else _CHANGING


def written_change(text: str) -> str | None:
    """Search a text for tool calls that are written as JSON; return the name of the first tool that changes something.

    The names of tools are read from fields such as `"name"`, at most `MAX_CALLS` of them. Return None if no named tool
    changes something, or if the text has no field for the arguments of a call.
    """
    if _CALLED_WITH.search(text) is None:
        return None
    found = (match["name"] for match in islice(_CALLED_NAME.finditer(text), MAX_CALLS))
    return next((name for name in found if changes_something(name)), None)
