"""Labels: people state what the first mistake of a run was, which measures how often reports agree."""

from relab.rca.labels.models import LabelledRun, LabelPage, LabelScore, LabelScores, NewLabel, RunLabel

__all__ = ["LabelPage", "LabelScore", "LabelScores", "LabelledRun", "NewLabel", "RunLabel"]
