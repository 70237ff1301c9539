"""Flags: what a running service is told to do otherwise, without a restart; the product's own have versions."""
