"""Agent runs: ingestion, storage, timelines and overview metrics."""
