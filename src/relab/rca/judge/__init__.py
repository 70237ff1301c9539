"""The judge: a language model that is asked which step of a failed run went wrong first.

Input: a run and its report. Output: the report with a `JudgeVerdict` beside the local ranking. `judge.py` asks the
model by one of the methods in `methods.py`. `transcript.py` writes the run for the prompt, `answers.py` checks each
answer, and `session.py` enforces the limits. `stage.py` applies the judge to stored analyses. Importing this package
loads none of these modules.
"""
