"""A small target and action server for responders, with a clock that each poll advances."""
