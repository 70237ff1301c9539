"""Notices: people learn of incidents without looking, by Slack-style webhooks and PagerDuty; and Slack commands."""
