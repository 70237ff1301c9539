"""Senders and receivers of notifications."""
