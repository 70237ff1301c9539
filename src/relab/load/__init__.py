"""Open-loop load for any HTTP service: requests go out when they are due, whatever the outcome of earlier requests."""
