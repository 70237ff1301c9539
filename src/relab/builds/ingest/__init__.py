"""Record builds that relab did not run, from their logs, from JUnit XML files, or from the report of a CI.

In: the bytes of a log or file, and facts about the build that a person or a CI gives. Out: one stored `Build` for each
log, file or report.
"""
