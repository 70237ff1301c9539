"""Plans: what a rollout changes, how it measures, and by which thresholds it is judged.

In: a YAML file. Out: a validated `Plan` (`reading.py`), the windows by arm and the flags of each arm (`schedule.py`).
"""
