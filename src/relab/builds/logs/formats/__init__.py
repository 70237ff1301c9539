"""How tools write their logs: one module per tool, each with its `FORMAT`; `registry.py` finds them."""

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule, ScopeRule
from relab.builds.logs.formats.registry import FORMATS

__all__ = ["FORMATS", "BlockRule", "LogFormat", "NamedTestRule", "ResultRule", "ScopeRule"]
