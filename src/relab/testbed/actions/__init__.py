"""The action server: the only interface through which incident responders change the service."""
