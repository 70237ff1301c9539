"""Statistics as pure functions: intervals, tests, power and verdicts.

Import from the modules of this package. These modules import scipy only inside the functions that use it.
"""
