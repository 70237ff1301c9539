"""The rule for a failed `go build` or `go vet`.

These commands print no result. They print the name of a package and then the places of its errors, so a first place
after the name of a package counts as a failure.
"""

import re

from relab.builds.logs.formats.descriptor import LogFormat, ResultRule
from relab.builds.logs.formats.go import PACKAGE, PLACE
from relab.builds.models import BuildStatus

FORMAT = LogFormat(
    # A tool of its own: a passed package of `go test` must not yield to a failure of `go vet` that the build tolerated.
    "Go build",
    results=(
        # Warnings of a C compiler have places of Go files, too. `go vet` may name the package once more, in brackets.
        ResultRule(
            re.compile(rf"{PLACE}(?!warning: |note: )"),
            BuildStatus.FAILED,
            follows=re.compile(rf"(?:{PACKAGE}|# \[[\w./@-]{{1,300}}\])$"),
        ),
    ),
)
