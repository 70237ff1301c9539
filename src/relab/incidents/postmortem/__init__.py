"""Compose postmortems of incidents. The door is `service`.

In: what is stored of an incident (`models.IncidentRecord`), and polls to be stored in its timeline. Out: a postmortem as
values, Markdown or a page.
"""
