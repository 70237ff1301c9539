"""Traces as OpenTelemetry exporters send them, and programs that trace themselves."""
