"""Jobs that run on the target's machine beside it: reports about the shop's sales."""
