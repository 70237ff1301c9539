"""The HTTP server of `lab serve`: uvicorn within limits that hold before a request reaches the app."""
