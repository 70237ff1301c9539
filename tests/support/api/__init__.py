"""The API in this process, and clients that send what no HTTP library would."""
