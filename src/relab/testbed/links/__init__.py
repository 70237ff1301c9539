"""The links: TCP proxies in front of the dependencies, in which network faults are simulated.

Input: connections of the target; `private/links.json`; requests on the Unix socket `private/links.sock`, which add
and remove toxics (simulated faults: latency, blocked bytes, refusals, resets, low bandwidth).
Output: connections to PostgreSQL and Redis, with the toxics applied; counters of each link.
Entry points: `python -m relab.testbed.links`; `client.LinksClient`. This folder imports no other folder of the testbed.
"""
