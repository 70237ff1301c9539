"""Measurements, printed side by side with their floors; nothing here is a test."""
