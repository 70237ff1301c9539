"""`lab builds`: run and record builds, explain their failures, suggest fixes, and choose policies for retries."""
