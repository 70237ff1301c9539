"""Evaluate responders: figures over many episodes, with confidence intervals."""
