"""Notify people of incidents, and answer their commands in Slack. Other packages use only `service`.

In: the events of incident timelines, and signed requests of Slack. Out: messages to Slack-style webhooks and PagerDuty,
and decisions, pauses and resumes that it passes to `incidents.service`.
"""
