"""Sums over the runs of each hour and minute.

In: the rows of runs that are written, changed or deleted. Out: the overview.
"""
