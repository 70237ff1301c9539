"""Suggestions of fixes for failed builds.

In: the relevant lines of a log. Out: the advice of the known failure that they show, or None.
"""
