"""Detectors: one module per failure category, named like the category.

In: a `RunView`. Out: `Problem`s, each with its category, its place in the run and quotations that show it. A detector is a
pure function and does not see the problems that the others find.
"""
