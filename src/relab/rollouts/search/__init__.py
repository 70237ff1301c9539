"""Searches: many candidates for the flags of arm B, of which a confirming rollout may apply one.

In: a search file (`spec.py`). Candidates are proposed (`proposals.py`), screened by short rollouts that never pass,
ranked (`candidates.py`), and the best one is confirmed by a rollout with new windows (`service.py`). Out: `report.py`.
"""
