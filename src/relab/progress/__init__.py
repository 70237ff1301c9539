"""Progress events of long tasks. The events are stored as rows of a table, and streamed to subscribers."""
