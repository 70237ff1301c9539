"""`lab rollout`: execute rollouts, decide on them, and search for the best values of flags."""
