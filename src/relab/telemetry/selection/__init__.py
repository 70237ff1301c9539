"""Find the runs that other parts of relab process or compare.

In: filters. Out: runs that wait for an analysis, failed runs, runs to search for behaviours (patterns), succeeded runs
to compare with a failed one, and the number of traces without agent activity.
"""
