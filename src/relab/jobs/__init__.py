"""The durable job queue: jobs are rows of one table; workers poll it or are woken by RQ."""
