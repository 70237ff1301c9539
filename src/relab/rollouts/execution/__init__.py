"""The execution of a rollout: windows by arm under the flags of each, the way back from every end, and the change.

In: a plan, an opened target, and a journal that keeps what must survive a crash. Out: an updated `RolloutRecord`.
"""
