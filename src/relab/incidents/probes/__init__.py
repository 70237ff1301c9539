"""Run probes: named, read-only requests to the target and the action server.

In: names of probes. Out: facts, each with evidence (request, place and value word for word), and the requests without an answer.
"""
