"""Plans: what a rollout changes, how it measures, and by which thresholds it is judged. A YAML file goes in.

Out come a validated `Plan` (`reading.py`), the windows by arm and the flags of each arm (`schedule.py`).
"""
