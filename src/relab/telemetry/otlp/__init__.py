"""OpenTelemetry traces: decode the bytes of an export into spans, and project spans to agent runs."""
