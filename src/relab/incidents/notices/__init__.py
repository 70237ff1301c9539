"""Notify people of incidents, and answer their commands in Slack. Other packages use only `service`.

In: the events of incident timelines, and signed requests of Slack. Out: messages to Slack-style webhooks and PagerDuty.
Commands (to approve or reject a plan, or to pause or resume the responder) are passed to `incidents.service`.
"""
