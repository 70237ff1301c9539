"""Stored incidents, responders, runbooks, and scripted models."""
