"""The comparison of a failed run with runs that succeeded (passing runs).

Input: a report, its run, and passing runs. Output: the report with the differences, each with a quotation.
`comparison.py` finds the differences, `reporting.py` adds them to the report; both are pure. `telemetry/selection/passing.py`
selects the passing runs.
"""

from relab.rca.passing.reporting import with_comparison

__all__ = ["with_comparison"]
