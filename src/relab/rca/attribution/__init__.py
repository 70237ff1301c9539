"""Attribution: which problem made the run fail.

Input: the problems that all detectors found. `resolution.py` merges them, so that each error of the run is one problem.
`classification.py` groups them into possible causes (`RankedCause`), most likely first. `sufficiency.py` checks whether
the telemetry is sufficient to name a cause.
"""

from relab.rca.attribution.classification import RankedCause, classify_problems
from relab.rca.attribution.resolution import resolve, time_order
from relab.rca.attribution.sufficiency import insufficient_reason

__all__ = ["RankedCause", "classify_problems", "insufficient_reason", "resolve", "time_order"]
