"""Read the output of `go test -json`: each line is a JSON object (event), which may contain a line of plain output."""

from __future__ import annotations

import json
import re
from typing import Final

_EVENT: Final = re.compile(
    r'\{(?:"Time":"[^"]{1,64}",)?(?:"ImportPath":"(?P<path>[^"]{1,300})",)?'
    r'"Action":"(?:start|run|pause|cont|pass|bench|fail|skip|output|build-output|build-fail)"'
    r'(?:,"Package":"(?P<package>[^"]{1,300})")?(?:,"Test":"(?:[^"\\]|\\.){1,1000}")?'
)
_OUTPUT: Final = re.compile(r',"Output":"(?P<output>(?:[^"\\]|\\.)*+)')


def event_output(text: str) -> tuple[str, str] | None:
    """Return `(package, line)` of an event of `go test -json`; None if the text is no event that names a package.

    `line` is the plain output in the event; empty for an event without output, such as the start of a test.

    Args:
        text: a line of a log. It may be cut at its end.
    """
    event = _EVENT.match(text)
    if event is None:
        return None
    package = event["package"] or event["path"]
    if package is None:
        return None
    output = _OUTPUT.match(text, event.end())
    if output is None:
        return package, ""
    quoted = output["output"]
    try:
        line = json.loads(f'"{quoted}"')
    except ValueError:
        # The line was cut inside an escape sequence, or has one that JSON does not know.
        line = quoted
    return package, " ".join(line.splitlines())
