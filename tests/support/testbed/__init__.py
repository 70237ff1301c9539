"""The testbed: whole ones, its target, its action server, its faults and what tells them apart."""
