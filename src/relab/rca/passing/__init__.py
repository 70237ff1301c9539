"""The comparison of a failed run with runs that succeeded.

In: a report, its run, and past runs. Out: the report with the differences, each with a quotation (`reporting.py`);
`comparison.py` finds them. Both are pure; which runs are compared is decided in `telemetry/passing.py`.
"""

from relab.rca.passing.comparison import FoundDifference, compare
from relab.rca.passing.reporting import with_comparison

__all__ = ["FoundDifference", "compare", "with_comparison"]
