"""Read logs of builds, and find the lines that explain a failure.

In: the bytes of the log of a failed build. The log of a build that passed can be given for comparison. Out:
`RelevantLine`s. All modules except `reading.py` and `shortened.py` are pure.
"""
