"""Postmortems of incidents: composed from stored data, rendered as Markdown or as a page."""
