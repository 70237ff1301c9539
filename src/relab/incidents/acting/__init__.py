"""Plan actions for a cause, check them against the policy, request them from the action server, and verify the result."""
