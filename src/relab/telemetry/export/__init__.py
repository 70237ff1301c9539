"""Export stored runs to files.

In: a filter. Out: rows of runs, items, spans and log records, as JSON Lines or Parquet.
"""
