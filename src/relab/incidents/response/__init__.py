"""Respond to one incident: the graph and its nodes, and the loop that polls and opens incidents.

In: polls, detection results, probes, the action server, knowledge and the decisions of people. Out: events of the
timeline, actions, and the end of the incident.
"""
