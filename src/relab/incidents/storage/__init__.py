"""Store incidents, timelines, actions, approvals, alerts, leases and baselines.

In: objects of `models` and of `incidents.actions`. Out: objects of the same classes, never database rows. Other packages
read and write by `log.IncidentLog`; only `notices` also has queries over the tables.
"""
