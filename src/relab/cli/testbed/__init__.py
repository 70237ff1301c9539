"""`lab testbed`: the shop, its faults and scenarios."""
