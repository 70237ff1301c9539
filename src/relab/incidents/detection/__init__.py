"""Detect anomalies in polls. Pure.

In: snapshots in order. Out: confirmed and unconfirmed anomalies, the baseline of usual values, and the outages of which
people must be notified.
"""
