"""Programs built with agent frameworks, run against a scripted model, and the recordings of the telemetry that they send."""
