"""Respond to incidents: poll the target, open an incident, and run its workflow (diagnose, repair, verify, close).

In: polls, detection results, probes, the action server, knowledge and the decisions of people. Out: events of the
timeline, actions, and the end of each incident.
"""
