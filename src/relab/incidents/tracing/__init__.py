"""Write incidents to telemetry as agent runs.

In: timelines of incidents, and the probes and polls of the responder. Out: one agent run per incident, and events that
record probes and measured values in its timeline.
"""
