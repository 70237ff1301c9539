"""Write incidents to telemetry as agent runs.

In: timelines of incidents, and the probes of the responder when they run. Out: one agent run per incident, and timeline
events that record the probes.
"""
