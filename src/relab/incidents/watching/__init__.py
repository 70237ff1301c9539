"""Looking at a target again and again: polls, what came of them, and who waits for the next one."""
