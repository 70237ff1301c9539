"""Labels: what people say that the first mistake of a run was, and how often reports agree."""

from relab.rca.labels.models import LabelledRun, LabelPage, LabelScore, LabelScores, NewLabel, RunLabel

__all__ = ["LabelPage", "LabelScore", "LabelScores", "LabelledRun", "NewLabel", "RunLabel"]
