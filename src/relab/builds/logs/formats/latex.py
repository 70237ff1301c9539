"""The log format of TeX: engines such as pdfTeX, LaTeX, and latexmk."""

import re

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, ResultRule
from relab.builds.logs.models import LineRole
from relab.builds.models import BuildStatus

_AFTER = r"(?:Emergency stop\.| *==> Fatal error occurred)"
_KINDS = (
    r"(?:(?:LaTeX3?|Package \S{1,60}|Class \S{1,60}|pdfTeX|LuaTeX|LaTeX Font) [Ee]rror|Undefined control sequence|Missing |Extra |Too many |Misplaced "
    r"|Paragraph ended |File ended |Argument of |Use of |Illegal |Double |Dimension too |Improper |TeX capacity exceeded|You can't use |I can't |Forbidden |Font |Incomplete )"
)
"""How messages of TeX begin; other programs write lines with an exclamation mark, too."""

FORMAT = LogFormat(
    "TeX",
    rules=(
        BlockRule(
            "error that another one caused",
            re.compile(
                rf"(?:! |\S{{1,300}}\.\w{{1,10}}:\d{{1,7}}: ){_AFTER}|Latexmk: (?:Errors, so I did not|If appropriate|Missing input file)"
            ),
            weight=0.3,
            role=LineRole.CONSEQUENCE,
        ),
        BlockRule(
            "error of TeX",
            re.compile(rf"! {_KINDS}|\S{{1,300}}\.(?:tex|sty|cls|ltx|bbl|aux|toc):\d{{1,7}}: \S"),
            re.compile(r"l\.\d+ |\s+\S|<.{1,40}>"),
            bridge=2,
            weight=0.95,
            max_lines=16,
        ),
        BlockRule(
            "argument without an end",
            re.compile(r"Runaway (?:argument|definition|text)\?$"),
            re.compile(r"[{\\]"),
            weight=0.9,
        ),
    ),
    results=(
        ResultRule(
            re.compile(r"!  ==> Fatal error occurred|\S{1,300}:\d{1,7}:  ==> Fatal error occurred"), BuildStatus.FAILED
        ),
        ResultRule(re.compile(r"Latexmk: Errors, so I did not complete making targets"), BuildStatus.FAILED),
        # pdfTeX writes its output also after errors that it skipped.
        ResultRule(re.compile(r"Latexmk: All targets \(.{0,300}\) are up-to-date$"), BuildStatus.SUCCESS),
    ),
)
