"""Decode the bodies of requests with telemetry, and store their content as rows.

In: JSON runs, and OTLP spans and log records. Out: rows, committed in groups by one thread, and a receipt for each post.
"""
