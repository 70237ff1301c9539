"""`lab agent-runs`: ingest, list, show, replay, export, recompute and delete agent runs."""
