"""Responders that anybody could write in ten minutes; what is measured is measured beside them."""
