"""Compose postmortems of incidents. Other packages use only `service`.

In: the stored data of an incident (`models.IncidentRecord`), and polls to be stored in its timeline. Out: a postmortem
as values, Markdown or a page.
"""
