"""Programs built with agent frameworks and run against a scripted model, and recordings of the telemetry they send."""
