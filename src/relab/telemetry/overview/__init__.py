"""Keep sums over the runs of each hour and minute, and compute the overview from them.

In: the rows of runs that are written, changed or deleted. Out: the overview.
"""
