"""The target of a rollout, over HTTP or by this product's flags: its flags, its health, and its metric.

In: a subject (`plans/subject.py`). Out: a `RolloutTarget` (`opening.py`). Every kind of flag target passes one
conformance suite.
"""
