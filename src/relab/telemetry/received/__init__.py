"""Store the spans and log records that were received over OTLP, and read them again.

In: decoded requests. Out: one row per span or log record; later reads compute runs from the rows, or export them.
"""
