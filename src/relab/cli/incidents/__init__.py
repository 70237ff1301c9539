"""`lab incidents`: show incidents, make decisions about them, and evaluate responders."""
