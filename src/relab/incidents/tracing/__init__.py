"""Write incidents to telemetry as agent runs.

In: timelines of incidents, and the probes that the responder runs. Out: one agent run per incident, and timeline events
that record the probes.
"""
