"""The HTTP server of `lab serve`: uvicorn with limits that are enforced before a request reaches the app."""
