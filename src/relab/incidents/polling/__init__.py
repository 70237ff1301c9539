"""Poll a target at intervals.

In: the answers of the target. Out: snapshots (`incidents.models.Snapshot`), one per poll, in a feed from which
consumers wait for the next poll.
"""
