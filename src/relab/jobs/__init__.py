"""The durable job queue: jobs are rows of one table; workers poll it, or the library RQ wakes them."""
