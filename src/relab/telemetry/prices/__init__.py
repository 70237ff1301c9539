"""Prices of language models, each with its date and source, and estimates of costs from tokens.

Input: tokens by model (`cost_models.py`). Output: a `CostEstimate`. No estimate is stored with a run: it is computed
when the run is read, so that a new price applies at once.
"""

from relab.telemetry.prices.book import USER_FILE, PriceBook
from relab.telemetry.prices.estimates import estimate, estimate_run
from relab.telemetry.prices.models import Price, PriceError, PriceTable

__all__ = ["USER_FILE", "Price", "PriceBook", "PriceError", "PriceTable", "estimate", "estimate_run"]
