"""A small target with an action server that a responder watches, by a clock that polls move."""
