"""Traces as OpenTelemetry exporters send them, and programs that are instrumented with OpenTelemetry."""
