"""Labels: people state what the first mistake of a run was. The labels measure how often reports are right."""

from relab.rca.labels.models import LabelledRun, LabelPage, LabelScore, LabelScores, NewLabel, RunLabel

__all__ = ["LabelPage", "LabelScore", "LabelScores", "LabelledRun", "NewLabel", "RunLabel"]
