"""The chaos server: injects faults for people and for the harness that scores responders. Responders cannot see it."""
