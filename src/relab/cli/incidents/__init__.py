"""`lab incidents`: incidents, decisions about them, and evaluations of responders."""
