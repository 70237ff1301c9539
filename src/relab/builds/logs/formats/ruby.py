"""The log format of RSpec."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat

FORMAT = LogFormat(
    "RSpec",
    rules=(
        BlockRule(
            "failed example",
            re.compile(r"\s*Failure/Error: \S"),
            re.compile(r"\s+\S"),
            until=re.compile(r"\s*\d{1,6}\) \S|Finished in |rspec \S"),
            bridge=1,
            weight=0.9,
            max_lines=40,
        ),
        BlockRule("file that RSpec could not load", re.compile(r"An error occurred while loading \S"), weight=0.5),
    ),
)
