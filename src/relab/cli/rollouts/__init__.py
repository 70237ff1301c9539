"""`lab rollout`: rollouts, and searches of many candidates."""
