"""Followers and writers of progress events."""
