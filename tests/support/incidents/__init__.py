"""Incidents as stored values, responders, runbooks, and models that are asked."""
