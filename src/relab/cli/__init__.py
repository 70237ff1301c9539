"""The `lab` command: one module for each group of commands. A command reads options, calls a service, and prints."""
