"""Statistics as pure functions: intervals, tests, power and verdicts.

Import from the modules; they import scipy only inside the functions that use it.
"""
