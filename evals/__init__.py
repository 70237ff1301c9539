"""Evaluations of relab's accuracy on real data.

They are run separately from the tests; every figure is printed with its n.
"""
