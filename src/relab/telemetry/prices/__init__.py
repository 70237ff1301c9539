"""Prices of language models, as data with the date and the source of each price, and estimates of costs from tokens.

In: tokens by model (`cost_models.py`). Out: a `CostEstimate`. No estimate is stored with a run: it is computed when
the run is read, so that a new price applies at once.
"""

from relab.telemetry.prices.book import USER_FILE, PriceBook
from relab.telemetry.prices.estimates import estimate, estimate_run
from relab.telemetry.prices.models import Price, PriceError, PriceTable

__all__ = ["USER_FILE", "Price", "PriceBook", "PriceError", "PriceTable", "estimate", "estimate_run"]
