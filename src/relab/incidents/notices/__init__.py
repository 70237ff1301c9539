"""Notify people of incidents by Slack-style webhooks and PagerDuty, and answer Slack commands."""
