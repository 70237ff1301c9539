"""A test with a race, as real ones have it; with FAULT=flaky it loses in one of two builds."""

import os
import sys

print("test_orders_arrive_in_order ...", flush=True)
if os.environ["FAULT"] == "flaky" and os.urandom(1)[0] < 128:
    sys.exit("FAILED test_orders_arrive_in_order: expected [1, 2], got [2, 1]")
print("ok")
