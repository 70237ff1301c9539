"""Find the JSON object in a model's reply. The reply may also have reasoning, prose and a Markdown code fence."""

from __future__ import annotations

import json
import re
from typing import Final

from relab.core.errors import MalformedBodyError
from relab.core.json import JsonValue, parse_json
from relab.llm.errors import LlmInvalidOutputError

_TAG: Final = re.compile(
    r"<(?P<end>/)?(?:\w{1,10}:)?(?:think|thinking|thought|reasoning|reflection|analysis)>|\[(?P<end_2>/)?THINK\]"
    r"|◁(?P<end_3>/)?think▷|<\|channel\|>(?:analysis|commentary|(?P<end_4>final))",
    re.IGNORECASE,
)
"""The tags before and after the reasoning of models. Some chat templates put the first tag into the prompt, so that the
reply has only the end tag.

In Harmony, the format of gpt-oss, the reasoning ends where the channel `final` begins.
"""

_BEFORE_PART: Final = ("[", '"')
_AFTER_PART: Final = ("]", ",", '"')
"""The characters beside an object that is only a part of a list or of a quotation."""

_MORE_TOKENS: Final = "Raise RELAB_LLM__MAX_COMPLETION_TOKENS, or turn the model's reasoning off on its server."


def find_json(text: str) -> JsonValue:
    """Return the JSON value in a model's reply: the value of the first of these texts that is valid.

    - the whole reply, with any JSON value
    - the text from the first `{` to the last `}` of the reply, if it is one JSON object
    - the same, in the part of the reply after the last end tag of the model's reasoning

    JSON is parsed strictly. An object inside the reasoning, a list, a quotation or a broken object is not valid, and
    neither are several objects. The time is linear in the length of the text.

    Raises:
        LlmInvalidOutputError: none of these texts is valid. The message has the reason, and no part of the reply.
    """
    text = text.strip()
    is_json, value = _parsed(text)
    if is_json:
        return value
    # The reasoning may repeat a text of the run that contains an end tag, so only the last end tag counts.
    ends = [tag.end() for tag in _TAG.finditer(text) if _ends(tag)]
    try:
        return _find_object(text)
    except LlmInvalidOutputError:
        if not ends:
            raise
    return _find_object(text[ends[-1] :])


def _find_object(text: str) -> JsonValue:
    start, end = text.find("{"), text.rfind("}") + 1
    if start < 0 or end <= start:
        raise LlmInvalidOutputError("The model's answer is not JSON: it has no JSON object.")
    before, found, after = text[:start], text[start:end], text[end:]
    tags = list(_TAG.finditer(before))
    if _TAG.search(after) or (tags and not _ends(tags[-1])):
        raise LlmInvalidOutputError("The model's answer ends inside its reasoning.", remedy=_MORE_TOKENS)
    is_json, value = _parsed(found)
    if not is_json:
        raise LlmInvalidOutputError(f"The model's answer is not JSON: {_problem(found)}.")
    if before.rstrip().endswith(_BEFORE_PART) or after.lstrip().startswith(_AFTER_PART):
        raise LlmInvalidOutputError(
            "The model's answer is not JSON: its JSON object is a part of a list or of a quotation."
        )
    return value


def _ends(tag: re.Match[str]) -> bool:
    return any(tag.groups())


def _parsed(text: str) -> tuple[bool, JsonValue]:
    """Parse `text` as strict JSON. Return `(True, value)`, or `(False, None)` if it is not strict JSON."""
    try:
        return True, parse_json(text.encode(errors="surrogatepass"))
    except MalformedBodyError:
        # The error quotes the text, so it must not become the context of the caller's error.
        return False, None


def _problem(found: str) -> str:
    """Return the reason why `found`, a text from a `{` to a `}`, is not exactly one object of strict JSON."""
    try:
        _, end = json.JSONDecoder().raw_decode(found)
    except (ValueError, RecursionError):
        return "its JSON object is broken, or the text around it has braces"
    if end < len(found):
        return "it has more than one JSON object, or braces after the first one"
    return "its JSON object has a duplicate key, or a value that relab does not accept"
