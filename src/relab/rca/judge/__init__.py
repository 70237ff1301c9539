"""The judge: a language model's opinion on the step of a failed run that went wrong first.

In: a run and its report. Out: the report with a `JudgeVerdict` beside the local ranking. `judge.py` asks by one of the
methods in `methods.py`; `transcript.py` writes the run for the prompt, `answers.py` checks each answer, `session.py` keeps the
limits, and `stage.py` belongs to stored analyses. Importing this package loads none of them.
"""
