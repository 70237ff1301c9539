"""Attribution on real failures: which step and which agent first went wrong, measured against published labels.

`cases.py` joins the runs of `evals/datasets` with their labels, `rules.py` has trivial rules, `predictions.py` calls
the analyser, `figures.py` computes shares with intervals, `tables.py` prints. The command is `python -m evals.rca`.
"""
