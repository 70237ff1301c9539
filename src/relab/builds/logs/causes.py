"""Recognise lines that report a failure but not its reason, such as "build failed"."""

from __future__ import annotations

import re
from typing import Final

from relab.core.error_templates import cause_of

_GENERIC: Final = re.compile(
    r"(?i:(?:g|mingw32-)?make(?:\[\d+\])?: \*\*\* (?!no rule)"
    r"|ninja: build stopped|compilation terminated|collect2: [^:\uff1a]{1,20}[:\uff1a] ?ld |.{0,40}ld returned \d"
    r"|\[error\] failed to execute goal .{1,300}(?:compilation failure|there (?:are|were) test failures|command execution failed|execution failed)"
    r"|\[error\] (?:compilation error|tests run:|build failure|there are test failures|-> \[help|failures: *$|errors: *$|the (?:compilation|installation) of \S{1,200} failed)"
    r"|(?:\[error\] +)?(?:failed tests|tests in error|failures|errors): *$|tests run: |.{0,300}tests run: \d"
    r"|npm (?:err!|error) (?:code \S{1,40}$|errno|exit status|failed at|a complete|command|path|workspace|location|signal|file|test failed|lifecycle|this is probably|.{1,200}: `.{0,300}`$|\s*$)"
    r"|error command failed|➤ yn0000: .{0,4}failed with errors|.{0,200}command failed with exit code|error: (?:could not compile|aborting due|test failed|recipe|process didn't exit|build failed|subprocess-exited-with-error|metadata-generation-failed|failed-wheel-build-for-install)"
    r"|error: (?:could not build wheels for |failed building wheel for )|(?:error: |\xd7 )failed to build installable wheels for some [\w. -]{1,80}$|note: this (?:error originates from a subprocess|is an issue with the package)|hint: see above|╰─> |\[end of output\]$"
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


def is_generic(text: str) -> bool:
    """Return whether a line only says that something failed, not what, like "make: *** [all] Error 1"."""
    text = text.removeprefix("##[error]").strip()
    if _GENERIC.match(text):
        return True
    return not any(word.lower() not in _EMPTY_WORDS for word in _WORD.findall(cause_of(text)))
