"""Search for the best new flags of a rollout: measure many candidates, and apply the best one if it passes.

In: a search file (`spec.py`). Candidates are proposed (`proposals.py`), each is measured in a short rollout, and they
are ranked (`candidates.py`). A short rollout has too few rounds for a PASS, so it applies nothing. The best candidate
is measured again in a full rollout, which applies it after a PASS (`service.py`). Out: a report (`report.py`).
"""
