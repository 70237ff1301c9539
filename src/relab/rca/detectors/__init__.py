"""One detector per failure category; each is a pure function of one run."""
