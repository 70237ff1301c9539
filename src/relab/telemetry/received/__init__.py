"""Spans and log records as they were received over OTLP.

In: decoded requests. Out: rows, stored once each, and read back for a projection or an export.
"""
