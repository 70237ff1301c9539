"""Compare the arguments of tool calls, to find whether a later call tries the same thing as a call that failed.

Two calls of a tool have the same intent if both conditions hold:

- All identifiers of the failed call, such as an order number, are also in the later call. This condition is dropped if
  the tool rejected the arguments of the failed call, because a correction may change an identifier.
- At least half of the failed call's values are also in the later call. If no identifier changed, it is enough that the
  two calls have at least half of their words in common.

Similar values count as equal (`_is_among`). A failed call without arguments has the intent of each later call.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from relab.core.json import digest
from relab.telemetry.outcome.activities import RunActivity

MAX_VALUES = 100
MAX_VALUE_CHARS = 400
"""The maximum number of values of a call, and of characters of a value, that are compared."""

_SAME_SHARE = 0.5
_SAME_WORDS = 0.5
_SAME_SPELLING = 0.75
_MIN_MEANINGFUL_CHARS = 3
_TEXT_WORDS = 3
"""An argument of at least this many words is a text: it is compared by words."""

_NOT_WORD = re.compile(r"[\W_]+")
_IDENTIFIER_KEY = re.compile(
    r"(?:^|[_.\-])(?:ids?|uuid|number|no|code|key|email|sku|iban|ref|reference|slug)$|[a-z]Ids?$"
)
_IDENTIFIER = re.compile(r"(?=\S*\d)[\w.@:/#+-]{3,64}$")
_REJECTED = re.compile(
    r"\b(?:invalid|missing|required|not found|no (?:such|results?|match(?:es)?)|try an?(?:other| different)|do(?:es)?(?: not|n't) exist|unknown|unexpected|must (?:be|not)|schema|"
    r"validat\w*|malformed|pars(?:e|ing)|unrecogni[sz]ed|cannot be used|not allowed|not supported|unsupported|incorrect|wrong|"
    r"bad request|type ?error|value ?error|key ?error|syntax ?error|name ?error)\b",
    re.IGNORECASE,
)
_REJECTING_CODES = frozenset((400, 404, 409, 410, 422))


class Arguments(NamedTuple):
    """The arguments of a tool call, prepared for comparisons with other calls.

    Attributes:
        fingerprint: a digest that is equal for equal arguments; None if neither arguments nor a digest were reported.
        values: `{path: value}` of the scalars; each value is in lower case without spaces and punctuation.
        identifiers: the paths of the values that name an entity, such as an order number.
        words: the words of all values, in lower case.
    """

    fingerprint: str | None
    values: dict[str, str]
    identifiers: frozenset[str]
    words: frozenset[str]


def arguments_of(call: RunActivity) -> Arguments:
    """Return the arguments of a tool call in a form in which two calls can be compared.

    The values are in lower case, without spaces and punctuation; at most `MAX_VALUES` are kept.
    """
    values: dict[str, str] = {}
    identifiers: set[str] = set()
    words: set[str] = set()
    for path, value in _scalars("", call.arguments):
        if len(values) == MAX_VALUES:
            break
        text = str(value)[:MAX_VALUE_CHARS]
        plain = _plain(text)
        if not plain:
            continue
        values[path] = plain
        words.update(word for word in _NOT_WORD.split(text.casefold()) if word)
        is_number = isinstance(value, int | float)
        if _IDENTIFIER_KEY.search(path.rstrip(".0123456789")) or (not is_number and _IDENTIFIER.match(text.strip())):
            identifiers.add(path)
    fingerprint = digest(call.arguments) if call.arguments is not None else call.args_hash
    return Arguments(fingerprint, values, frozenset(identifiers), frozenset(words))


def rejects_arguments(call: RunActivity) -> bool:
    """Return whether the error of a failed call says that the call's arguments were wrong."""
    code = call.status_code
    if code is not None and code >= 400:
        return code in _REJECTING_CODES
    text = f"{call.error_class or ''} {call.error_message or call.result or ''}"[:2_000]
    return _REJECTED.search(_NOT_WORD_BUT_SPACE.sub(" ", text)) is not None


_NOT_WORD_BUT_SPACE = re.compile(r"[^\w' ]+")


def is_same_intent(failed: Arguments, later: Arguments, *, is_correction: bool) -> bool:
    """Return whether a later call of the same tool tries the same thing as a failed call.

    Args:
        failed: the arguments of the failed call.
        later: the arguments of the later call.
        is_correction: whether the tool had rejected the arguments of the failed call. If true, the identifiers in the
            later call, such as an order number, may differ.
    """
    if failed.fingerprint is not None and failed.fingerprint == later.fingerprint:
        return True
    if not failed.values:
        # No arguments were reported or sent, so the later call cannot have another intent.
        return True
    if not later.values:
        return False
    known = set(later.values.values())
    # Identifiers first, because they decide most comparisons, and the spelling of the other values costs the most.
    changed = {path for path in failed.identifiers if not _is_among(failed.values[path], True, known)}
    if changed and not is_correction:
        return False
    others = failed.values.keys() - failed.identifiers
    equal = {path for path in others if _is_among(failed.values[path], False, known)} | failed.identifiers - changed
    if len(equal) >= _SAME_SHARE * len(failed.values):
        return True
    return not changed and _share_words(failed.words, later.words) >= _SAME_WORDS


def is_related(failed: Arguments, other: Arguments) -> bool:
    """Return whether a call of another tool (`other`) probably asks for the same thing as a failed call.

    The result is True if at least half of the failed call's values are also values of the other call (values of one or
    two characters are ignored), or if the two calls have at least half of all their words in common.
    """
    meaningful = [value for value in failed.values.values() if len(value) >= _MIN_MEANINGFUL_CHARS]
    if not meaningful or not other.values:
        return False
    known = set(other.values.values())
    equal = sum(value in known for value in meaningful)
    return equal >= _SAME_SHARE * len(meaningful) or _share_words(failed.words, other.words) >= _SAME_WORDS


def _is_among(value: str, is_identifier: bool, known: set[str]) -> bool:
    """Return whether `value` equals or resembles one of the `known` values.

    An identifier resembles another one if one of them contains the other. Other values resemble each other if they are
    short and spelt alike. Values of one or two characters must be equal.
    """
    if value in known:
        return True
    if len(value) < _MIN_MEANINGFUL_CHARS:
        return False
    if is_identifier:
        return any(len(other) >= _MIN_MEANINGFUL_CHARS and (value in other or other in value) for other in known)
    return any(_is_spelt_alike(value, other) for other in known if _is_near(value, other))


def _is_spelt_alike(value: str, other: str) -> bool:
    """Return whether the spelling of two texts is similar: a ratio of `difflib` of at least `_SAME_SPELLING`."""
    matcher = difflib.SequenceMatcher(None, value, other)
    # The first two ratios are upper bounds of the third, which takes much longer.
    ratios = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
    return all(ratio() >= _SAME_SPELLING for ratio in ratios)


def _is_near(value: str, other: str) -> bool:
    """Return whether two texts are short (at most 60 characters) and similar in length.

    The spelling of longer or less similar texts is not compared, because the comparison would take long.
    """
    return max(len(value), len(other)) <= 60 and abs(len(value) - len(other)) <= 0.5 * len(value)


def _share_words(some: frozenset[str], others: frozenset[str]) -> float:
    """Return the number of words in both sets, divided by the number of words in at least one (Jaccard index).

    Return 0 if a set has fewer than `_TEXT_WORDS` words.
    """
    if len(some) < _TEXT_WORDS or len(others) < _TEXT_WORDS:
        return 0.0
    return len(some & others) / len(some | others)


def _plain(text: str) -> str:
    return _NOT_WORD.sub("", text.casefold())


def _scalars(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield `(path, scalar)` of every scalar inside a JSON value, in depth-first order; null is left out.

    Each path begins with `path`, followed by keys and list indexes with dots, such as `items.0.id`.
    """
    stack = [(path, value)]
    while stack:
        here, node = stack.pop()
        if isinstance(node, dict):
            stack.extend((f"{here}.{key}" if here else str(key), child) for key, child in reversed(node.items()))
        elif isinstance(node, list):
            stack.extend((f"{here}.{index}", child) for index, child in reversed(list(enumerate(node))))
        elif node is not None:
            yield here, node
