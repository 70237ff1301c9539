"""Rollouts: change the flags of a running service, measure what the change does, and keep it only if it is better.

A rollout begins with a plan (`plans/`). It measures the service in windows, alternately with the old flags (arm A) and
the new ones (arm B) (`execution/`). Statistics judge the windows (`judging/`, pure). A change is applied if its verdict
is PASS; otherwise, the old flags are restored. Every rollout ends with a report, a line of history and the command that
undoes the rollout (`reports/`).
"""
