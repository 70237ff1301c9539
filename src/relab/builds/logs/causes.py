"""The text that identifies the cause of a failure: a line without what differs between builds that fail alike."""

from __future__ import annotations

import re
from typing import Final

from relab.builds.logs.masking import mask_secrets

MAX_CAUSE_CHARS: Final = 300
_MARK: Final = "#"

_PREFIX: Final = re.compile(r"(?:##\[error\]|::error[^:]{0,200}::|E {2,}|\s+|>\s)+")
_QUERY: Final = re.compile(r"(\w{2,10}://)(?:[^\s/@]{1,200}@)?([^\s?'\"<>]{1,1000})(?:\?[^\s'\"<>]{0,1000})?")
_ABSOLUTE: Final = re.compile(
    r"(?<![\w.:/\\<])(?P<path>(?:[A-Za-z]:)?~?[/\\](?:[^\s/\\:'\"`(),;\[\]<>]{1,255}[/\\]){0,60})(?P<name>[^\s/\\:'\"`(),;\[\]<>]{0,255})"
)
_TEMPORARY: Final = re.compile(r"[/\\](?:te?mp|Temp|T)[/\\]$")
_HERE: Final = re.compile(r"(?<![\w.])(?:\.{1,2}/)+(?=\w)")
_KEPT: Final = (
    # Codes say what failed, so that they stay, unlike other numbers.
    r"(?P<kept>(?i:\b(?:http(?:/[\d.]{1,4})?|status(?: code)?|errno|(?:error|exit|response) (?:code|status)|code|signal)[ :=]{0,3}-?\d{1,4}\b"
    r"|\b(?:error|returned)[: ]{1,2}[45]\d\d\b))"
)
_UNIT: Final = (
    r"(?:[nmuµ]?s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?|[kKMGT]i?[bB]?|[kKMGT]?i?[bB]/s|bytes?|%)"
)
_VARYING: Final = re.compile(
    "|".join(
        (
            _KEPT,
            r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b",
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?Z| ?[+-]\d\d:?\d\d)?)?",
            r"\b0[xX][0-9a-fA-F]{1,64}\b",
            r"\b(?:(?=\d{0,40}[a-f])[0-9a-f]{7,128}|(?=\d{0,40}[A-F])(?=[A-F]{0,40}\d)[0-9A-F]{8,128})\b",
            r"\bgw\d{1,4}\b",
            r"(?i:\b(?:worker|thread|shard|process|pid|runner|agent|executor)[-_ #]?\d{1,9}\b)",
            rf"(?<![A-Za-z_\d.])(?:\d{{1,18}}(?:[.,]\d{{1,9}})? ?{_UNIT} ?){{1,4}}(?!\w)",
            r"\bv?\d{1,9}(?:\.\d{1,9}){1,5}(?!\w)",
            r"(?<![A-Za-z_\d])\d(?:[\d.,:_]{0,60}\d)?(?!\w)",
        )
    )
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9]{8,255}")
_CHANGE: Final = re.compile(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])")
_MIN_CHANGES: Final = 3
"""A word that alternates between letters and digits so often was drawn at random, such as the name of a temporary folder."""
_MARKS: Final = re.compile(r"#(?:[ ,.:]{0,2}#)+")

_GENERIC: Final = re.compile(
    r"(?i:(?:g|mingw32-)?make(?:\[\d+\])?: \*\*\* (?!no rule)"
    r"|ninja: build stopped|compilation terminated|collect2: error: ld returned|.{0,40}ld returned \d"
    r"|\[error\] failed to execute goal .{1,300}(?:compilation failure|there (?:are|were) test failures|command execution failed|execution failed)"
    r"|\[error\] (?:compilation error|tests run:|build failure|there are test failures|-> \[help|failures: *$|errors: *$)"
    r"|(?:\[error\] +)?(?:failed tests|tests in error|failures|errors): *$|tests run: |.{0,300}tests run: \d"
    r"|npm (?:err!|error) (?:code (?:elifecycle|\d)|errno|exit status|failed at|a complete|command|path|workspace|location|signal|file|test failed|lifecycle|this is probably|.{1,200}: `.{0,300}`$|\s*$)"
    r"|error command failed|.{0,200}command failed with exit code|error: (?:could not compile|aborting due|test failed|recipe|process didn't exit|build failed)"
    r"|test result: failed|fail(?:ed)?$|exit status \d|.{0,200}returned (?:a )?non-?zero exit|.{0,200}(?:exit(?:ed)?|failed|terminated|completed|returned)(?: with)?(?: an?)?(?: exit)?(?: (?:code|status))?:? -?\d{1,3}\.?$"
    r"|={3,} .{0,200}\d (?:failed|errors?)|failed \((?:failures|errors)=|execution failed for task|failure: build|build (?:failed|failure)|error: job failed"
    r"|traceback \(most recent|what went wrong|.{0,60}there (?:were|was|are) failing tests|fail\s+[\w./@-]{1,300}(?:\s|$)|\s*-{4,}|\d+ (?:error|warning|test)s?\b.{0,60}$)"
)
"""Lines that report that something failed, and not what: builds with different causes share them."""
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_EMPTY_WORDS: Final = frozenset(
    _WORD.findall(
        "error errors err fatal fail fails failed failing failure failures failing build builds exit exited code status make all target command process"
        " completed returned non zero with the this that was were are and for see above below more details log output test tests task tasks job step script"
        " run running stop stopped abort aborted terminated unknown unexpected exception assertionerror assert false true none null expected received"
        " runtimeerror info warn warning severe critical stderr stdout"
    )
)


def cause_of(text: str) -> str:
    """Return the text of a line with `#` in place of what differs between builds that fail alike.

    Masked are numbers that stand alone, with their units, versions, times and dates, digests, addresses and identifiers that look
    random. Of absolute paths the name of the file stays, of files in a temporary folder its suffix. Digits inside names (`E0308`,
    `test_2`) and the codes of HTTP, errors and exits stay, because they say what failed.
    """
    text = mask_secrets(text[: 8 * MAX_CAUSE_CHARS])
    start = _PREFIX.match(text)
    text = text if start is None else text[start.end() :]
    text = _QUERY.sub(r"\1\2", text)
    text = _HERE.sub("", _ABSOLUTE.sub(_name_of_path, text))
    text = _VARYING.sub(lambda found: found.group() if found["kept"] else _MARK, text)
    text = _TOKEN.sub(_random_as_mark, text)
    return " ".join(_MARKS.sub(_MARK, text).split())[:MAX_CAUSE_CHARS]


def is_generic(text: str) -> bool:
    """Return whether a line says only that something failed, such as "make: *** [all] Error 1", so that it identifies no cause."""
    text = text.removeprefix("##[error]").strip()
    if _GENERIC.match(text):
        return True
    return not any(word.lower() not in _EMPTY_WORDS for word in _WORD.findall(cause_of(text)))


def _name_of_path(found: re.Match[str]) -> str:
    path, name = found["path"], found["name"]
    if _TEMPORARY.search(path):
        _, dot, suffix = name.rpartition(".")
        return f"<tmp>{dot}{suffix}" if dot and suffix.isalpha() else "<tmp>"
    return name or "/"


def _random_as_mark(found: re.Match[str]) -> str:
    return _MARK if len(_CHANGE.findall(found.group())) >= _MIN_CHANGES else found.group()
