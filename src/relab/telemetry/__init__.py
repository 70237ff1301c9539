"""Agent runs: what came in, the timeline of it, and overview metrics."""
