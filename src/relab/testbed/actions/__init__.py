"""The action server: the only way by which anybody who responds to an incident changes the service."""
