"""Agent runs, and clients that post them."""
