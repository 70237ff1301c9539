"""`lab agent-runs`: stored runs, listed, shown, exported and computed again."""
