"""The HTTP API, one file per context, thin."""
