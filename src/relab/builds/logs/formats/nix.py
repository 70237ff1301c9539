"""The log format of Nix: derivations that failed, with the last lines of their logs."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_STORE = r"'/nix/store/\S{1,300}"
_END = (
    rf"(?:error: )?(?:cannot build derivation {_STORE}|\d{{1,6}} dependenc(?:y|ies) of derivation {_STORE}"
    rf"|build of {_STORE}.{{0,2000}} failed$)"
)

FORMAT = LogFormat(
    "Nix",
    rules=(
        BlockRule("derivation that needs a failed one", re.compile(_END), weight=0.3, role=LineRole.CONSEQUENCE),
        BlockRule(
            "hash that differs",
            re.compile(r"\s*(?:error: )?hash mismatch in (?:fixed-output derivation|file downloaded)\b"),
            re.compile(r"\s+(?:specified|wanted|got|expected):"),
            weight=0.97,
        ),
        BlockRule(
            "derivation that failed",
            re.compile(rf"\s*error: (?:builder for |Cannot build ){_STORE}"),
            re.compile(r"\s+\S"),
            weight=0.9,
            max_lines=60,
        ),
    ),
    noise=re.compile(
        r"(?:these \d+ derivations|this derivation|these derivations) will be built:|building '/nix/store/|copying path '/nix/store/|unpacking sources$|\s+… while "
    ),
    results=(
        ResultRule(
            re.compile(
                rf"\s*error: (?:builder for |Cannot build |build of |\d{{1,6}} dependenc(?:y|ies) of derivation ){_STORE}"
                rf"|\s*(?:error: )?hash mismatch in fixed-output derivation {_STORE}|cannot build derivation {_STORE}"
            ),
            BuildStatus.FAILED,
        ),
    ),
)
