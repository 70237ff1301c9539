"""The log formats that relab recognises. Each module describes the logs of related tools in its constant `FORMAT`.

`registry.py` collects these constants in `FORMATS`. `descriptor.py` defines their classes.
"""

from relab.builds.logs.formats.descriptor import BlockRule, LogFormat, NamedTestRule, ResultRule, ScopeRule
from relab.builds.logs.formats.registry import FORMATS

__all__ = ["FORMATS", "BlockRule", "LogFormat", "NamedTestRule", "ResultRule", "ScopeRule"]
