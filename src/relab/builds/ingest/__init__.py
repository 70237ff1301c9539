"""Builds that relab did not run: their records are read from logs and JUnit XML files, or reported by a CI.

In: bytes of a log, and what is known of its build. Out: a stored `Build`, once for each source.
"""
