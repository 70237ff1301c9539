"""The chaos server: injects faults for people and for the harness that scores responders. Responders cannot see it.

Input: HTTP requests that name a fault of the catalogue, its parameters, a delay and a duration.
Output: real faults in the target, its dependencies, links, limits, settings and traffic; the list of injections.
Entry points: `python -m relab.testbed.chaos`; `faults.catalogue` (all faults, each with its presence test, for
scoring); `ground.Ground`, the access of fault injection to the testbed.
"""
