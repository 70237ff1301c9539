"""Suggestions of fixes for failed builds. In: the relevant lines of a log. Out: the advice of a known failure, or None."""
