"""The job queue: installations, handlers, worker processes."""
