"""Recognise errors that do not say what went wrong, such as "Something went wrong" or `Exception`."""

from __future__ import annotations

import re
from functools import lru_cache

from relab.rca.evidence.error_text import last_name

_WORD = re.compile(r"\w+")
_GENERIC_WORDS = frozenset(
    (
        "a", "an", "the", "this", "that", "it", "we", "i", "you", "your", "our", "us", "my", "me", "please", "try",
        "again", "later", "sorry", "oops", "has", "have", "had", "was", "were", "is", "are", "be", "been", "being",
        "do", "did", "does", "occurred", "occur", "happened", "happen", "encountered", "got", "get", "unexpected",
        "unknown", "unspecified", "generic", "general", "internal", "server", "system", "error", "errors", "exception",
        "failure", "failures", "failed", "fail", "fails", "failing", "fatal", "unhandled", "uncaught", "something",
        "went", "wrong", "bad", "problem", "issue", "run", "task", "agent", "step", "tool", "call", "calls", "job",
        "execution", "executing", "request", "requests", "operation", "process", "processing", "workflow", "action",
        "could", "couldn", "can", "cannot", "not", "t", "unable", "to", "complete", "completed", "finish", "finished",
        "perform", "handle", "with", "while", "during", "in", "on", "of", "at", "by", "from", "for", "and", "or", "as",
        "contact", "support", "administrator", "http", "status", "code", "500", "no", "none", "null", "n", "details",
        "detail", "available", "reason", "message", "returned", "1",
    )
)  # fmt: skip
_GENERIC_CLASSES = frozenset(
    (
        "error", "exception", "baseexception", "runtimeerror", "internalservererror", "internalerror", "servererror",
        "unknownerror", "unknown", "failure", "systemerror", "agenterror", "agentexecutionerror", "toolerror",
        "toolcallerror", "toolexecutionerror", "toolexception", "steperror", "runerror", "taskerror", "executionerror",
        "genericerror", "none", "null", "other", "_other",
    )
)  # fmt: skip


@lru_cache(maxsize=4_096)
def is_generic_message(text: str | None) -> bool:
    """Return whether a message only says that something failed; True for None and "".

    Such a message has at most 400 characters, and all of its words are from phrases such as "internal server error" or
    "please try again later".
    """
    if not text:
        return True
    if len(text) > 400:
        return False
    return all(word in _GENERIC_WORDS for word in _WORD.findall(text.casefold()))


def is_generic_class(error_class: str | None) -> bool:
    """Return whether an error class names no kind of error, such as `Exception` or `ToolError`.

    The result is also true for None and "".
    """
    return not error_class or last_name(error_class).casefold() in _GENERIC_CLASSES or not error_class.strip()
