"""Lists of runs for other parts of relab.

In: filters. Out: runs that wait for an analysis, that failed, that are to be searched, that did the same task, or that show no agent.
"""
