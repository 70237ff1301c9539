"""One detector per failure category; each is a pure function over a run."""
