"""The `lab` command: one module for each group of commands. The commands only call the services."""
