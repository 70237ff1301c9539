"""Ranking: guess which step of a failed run went wrong first, and find problems of steps that no error reports.

The input is a `RunView` (an indexed run) and trained models. The result has at most three guesses, each with reasons.
It also has the steps and tool calls with problems; each problem has a kind, a typical mistake of agents (`details.py`).

The source of a run is the program that made the run. `rules.py` ranks runs of any source. A model (`model.py`) is used
only for the source on whose runs it was trained (`sources.py`). `training.py` trains a model on labelled runs.
"""

from relab.rca.ranking.details import DETAILS
from relab.rca.ranking.guesses import Guess, Odds, Ranking, Suspicion
from relab.rca.ranking.model import RankingModels, SourceModel, shipped_models
from relab.rca.ranking.ranker import quote_unit, rank_run
from relab.rca.ranking.training import train
from relab.rca.ranking.training_runs import MIN_RUNS, TrainingRun
from relab.rca.ranking.units import Unit, UnitKey, units_of

__all__ = [
    "DETAILS",
    "MIN_RUNS",
    "Guess",
    "Odds",
    "Ranking",
    "RankingModels",
    "SourceModel",
    "Suspicion",
    "TrainingRun",
    "Unit",
    "UnitKey",
    "quote_unit",
    "rank_run",
    "shipped_models",
    "train",
    "units_of",
]
