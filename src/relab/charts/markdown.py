"""Escape external text for Markdown, so that CommonMark and GitHub's dialect of it show the text literally."""

from __future__ import annotations

import re
from typing import Final

from relab.charts.pages import visible

_MARKUP: Final = re.compile(r"([\\`*_{}\[\]<>#|!&~@$^=])")
_LINK: Final = re.compile(r"(://|www\.)", re.IGNORECASE)
_LIST: Final = re.compile(r"^(\s*)([-+]|\d{1,9}[.)])(?=\s|$)")
_RULE: Final = re.compile(r"-(?=-)")


def escaped(text: str) -> str:
    """Return a text on one line, escaped so that Markdown shows it literally."""
    line = " ".join(visible(text).replace("\n", " ").replace("\t", " ").split())
    line = _MARKUP.sub(r"\\\1", line)
    line = _LINK.sub(lambda link: link[0].replace(":", "\\:").replace(".", "\\."), line)
    line = _RULE.sub(r"\\-", line)
    return _LIST.sub(lambda item: f"{item[1]}{item[2][:-1]}\\{item[2][-1]}", line)
