"""Store incidents, timelines, actions, approvals, alerts, leases and baselines.

In: values of `models` and of `incidents.actions`. Out: the same values; no row leaves this package. Other packages use
only `log.IncidentLog`.
"""
