"""The API in this process, and clients that send requests which no HTTP library would send."""
