"""Root cause analysis of one agent run, evidence first."""
