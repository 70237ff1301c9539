"""The target of a rollout: read and change its flags, check its health, and read its metric.

The flags belong to a service that is reached over HTTP, or are relab's own flags.

In: a subject (`plans/subject.py`). Out: a `RolloutTarget` (`opening.py`). Every kind of flag target passes one
conformance suite.
"""
