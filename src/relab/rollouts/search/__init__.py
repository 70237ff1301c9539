"""Searches: measure many candidates for the new flags (arm B) in short rollouts; a full rollout may apply the best one.

In: a search file (`spec.py`). Candidates are proposed (`proposals.py`), screened by short rollouts that never pass, and
ranked (`candidates.py`). A full rollout with new windows (measurements) confirms the best one (`service.py`). Out:
`report.py`.
"""
