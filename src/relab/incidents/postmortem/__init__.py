"""Compose postmortems of incidents. Other packages use `service`, `models`, `signal_events`, `signal_writer`.

In: the stored data of an incident (`models.IncidentRecord`), and the polls around the incident. Out: a postmortem as
values, Markdown or an HTML page, and a timeline event that stores the signals of the polls.
"""
