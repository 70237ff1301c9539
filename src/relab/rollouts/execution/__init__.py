"""The execution of a rollout: measure windows under the flags of each arm, then apply a PASS or restore the flags.

In: a plan, an opened target, and a journal that keeps what must survive a crash. Out: an updated `RolloutRecord`.
"""
