"""The API in this process, and clients for requests that no HTTP library sends."""
