"""Suggest fixes for failed builds.

The input is the relevant lines of a build's log. They are compared with known failures. The output is a `FixSuggestion`:
the advice for the known failure that matches best, or the statement that no fix is known.
"""
