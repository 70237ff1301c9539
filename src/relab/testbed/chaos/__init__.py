"""The chaos server: brings causes about, for people and for the harness that scores responders. Nobody else knows of it."""
