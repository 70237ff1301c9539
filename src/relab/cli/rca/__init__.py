"""`lab rca`: root causes of runs, of many runs at once, and their labels."""
