"""The implementations of the actions. Each file has related actions, such as restarts or changes of settings."""
