"""Measurements, printed next to their floors; they are not tests."""
