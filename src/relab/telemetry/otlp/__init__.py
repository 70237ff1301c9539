"""OpenTelemetry traces: from the bytes of an export to spans, and from spans to agent runs."""
