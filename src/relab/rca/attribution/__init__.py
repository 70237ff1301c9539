"""Attribution: which problem made the run fail.

In: the problems of all detectors. `resolution.py` merges them so that each error of the run is one problem.
`classification.py` groups them into possible `RankedCause`s, most likely first. `sufficiency.py` checks whether the
telemetry is sufficient for a conclusion.
"""

from relab.rca.attribution.classification import RankedCause, classify_problems
from relab.rca.attribution.resolution import resolve, time_order
from relab.rca.attribution.sufficiency import insufficient_reason

__all__ = ["RankedCause", "classify_problems", "insufficient_reason", "resolve", "time_order"]
