"""The `lab` command, one file per context, thin."""
