"""Classify a failed call by its SQLSTATE or by words of its error message. Pure."""

from __future__ import annotations

from typing import Final

FULL: Final = "full"
CREDENTIAL: Final = "credential"
REFUSED: Final = "refused"
TIMEOUT: Final = "timeout"
CUT: Final = "cut"
POOL: Final = "pool"
DESCRIPTORS: Final = "descriptors"
MEMORY: Final = "memory"
STATEMENT: Final = "statement"
OTHER: Final = "other"
KINDS: Final = (FULL, CREDENTIAL, REFUSED, TIMEOUT, CUT, POOL, DESCRIPTORS, MEMORY, STATEMENT, OTHER)

_SQLSTATES: Final = {
    "53300": FULL,
    "28P01": CREDENTIAL,
    "28000": CREDENTIAL,
    "57014": STATEMENT,
    "55P03": STATEMENT,
    "57P01": CUT,
    "57P02": CUT,
    "08006": CUT,
    "08001": REFUSED,
}
"""PostgreSQL's codes, appendix A of its manual: 57014 is a cancelled statement, 55P03 a lock that is not available."""

_WORDS: Final = (
    # First, because an exhausted pool also says `timed out`, which is not a time-out of the network.
    (("queuepool", "pool exhausted", "no connection available"), POOL),
    (("too many open files", "emfile"), DESCRIPTORS),
    (("too many clients", "remaining connection slots", "too many connections"), FULL),
    (("password authentication failed", "noauth", "wrongpass", "authent", "invalid username-password"), CREDENTIAL),
    (("oom command not allowed", "maxmemory", "out of memory"), MEMORY),
    (("statement timeout", "lock timeout", "canceling statement"), STATEMENT),
    (
        ("refused", "no such host", "no route to host", "unreachable", "ehostunreach", "enotfound", "eai_again",
         "name or service not known"),
        REFUSED,
    ),
    (
        ("reset", "closed the connection", "closed by server", "terminating connection", "broken pipe", "epipe",
         "connection lost", "connection is closed", "unexpectedly", "end of file", " eof "),
        CUT,
    ),
    # Before the time-outs, which most of these messages mention, and after what a pool reports of the network.
    (
        ("connection pool", "connection from the pool", "hikaripool", "pool timed out", "pool empty", "pool is probably full",
         "couldn't get a connection"),
        POOL,
    ),
    (("timeout", "timed out", "etimedout", "deadline exceeded", "no answer"), TIMEOUT),
    (("failed to connect", "could not connect", "not possible to connect"), REFUSED),
)  # fmt: skip


def kind_of(text: str, sqlstate: str | None = None) -> str:
    """Return the kind of a failure, one of `KINDS`.

    Args:
        text: the error message.
        sqlstate: PostgreSQL's error code, if there is one; a code that this module knows has precedence over the message.
    """
    if sqlstate in _SQLSTATES:
        return _SQLSTATES[sqlstate]
    # With spaces around it, so that " eof " is found at both ends.
    lowered = f" {text.lower()} "
    return next((kind for words, kind in _WORDS if any(word in lowered for word in words)), OTHER)
