"""OpenTelemetry traces: decode the body of an OTLP request into spans, and compute agent runs from spans."""
