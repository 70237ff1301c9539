"""From polls to findings, without a clock, a network or a word of what was done to the target."""
