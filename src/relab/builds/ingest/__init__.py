"""Builds that relab did not run: their records are read from logs and JUnit XML files, or reported by a CI.

In: the bytes of a log, and facts about its build that are known from elsewhere. Out: one stored `Build` for each
source.
"""
