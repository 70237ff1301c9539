"""Progress events of long tasks: they are stored as rows and streamed to subscribers."""
