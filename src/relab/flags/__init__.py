"""Flags change the behaviour of a running service without a restart. The flags that relab stores have versions."""
