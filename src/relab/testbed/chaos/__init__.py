"""The chaos server injects faults at the request of people, or of the harness that scores responders.

Responders have no access to this server.

Input: HTTP requests that name a fault of the catalogue, its parameters, a delay and a duration.
Output: real faults in the target, its dependencies, links, limits, settings and traffic; the list of injections.
Entry points: `python -m relab.testbed.chaos`; `faults.catalogue` (all faults; scoring uses it to test whether a fault
is present); `ground.Ground`, the access of fault injection to the testbed.
"""
