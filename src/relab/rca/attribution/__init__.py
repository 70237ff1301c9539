"""Attribution: which problem made the run fail.

In: the problems of all detectors. Out: each error of the run as one problem (`resolution.py`), the possible `RankedCause`s, most
likely first (`classification.py`), and whether the telemetry is sufficient for a conclusion (`sufficiency.py`).
"""

from relab.rca.attribution.classification import RankedCause, classify_problems
from relab.rca.attribution.resolution import resolve, time_order
from relab.rca.attribution.sufficiency import insufficient_reason

__all__ = ["RankedCause", "classify_problems", "insufficient_reason", "resolve", "time_order"]
