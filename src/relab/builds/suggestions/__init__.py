"""Suggestions of fixes for failed builds.

In: the relevant lines of a log. Out: a `FixSuggestion`: the advice for the known failure that the lines show, or an
abstention.
"""
