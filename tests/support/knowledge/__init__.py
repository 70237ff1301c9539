"""Processes that store vectors."""
