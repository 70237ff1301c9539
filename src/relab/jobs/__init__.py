"""The durable job queue: jobs are rows of one table. Workers poll the table, or the library RQ wakes the workers."""
