"""Shared test helpers: real servers, real processes, sample runs, and waiting for conditions."""
