"""From the body of a request to stored rows.

In: JSON runs, and OTLP spans and log records. Out: rows, committed in groups by one thread, and a receipt for each post.
"""
