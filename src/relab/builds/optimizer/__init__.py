"""The choice of a configuration: actions, the situation they are chosen in, policies, and the log of decisions.

A `BuildSituation` comes in; a logged `BuildDecision` goes out, and later its reward comes back.
"""
