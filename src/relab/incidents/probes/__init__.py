"""Run probes: named, read-only requests to the target and the action server.

In: names of probes. Out: facts, each with evidence (the request, and the position and the quoted text in its answer),
and the requests without an answer.
"""
