"""Experiments: run a harness over variants, tasks and repeats in sandboxes, and write verified result tables."""
