"""Attribution: which problem made the run fail.

In: the problems of all detectors. Out: each error of the run as one problem (`resolution.py`), the possible `Cause`s, most
likely first (`classification.py`), and whether the telemetry is sufficient for a conclusion (`sufficiency.py`).
"""
