"""Flags: they change the behaviour of a running service without a restart. The flags of relab itself have versions."""
