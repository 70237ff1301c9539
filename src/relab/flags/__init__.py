"""Flags change the behaviour of a running service without a restart. relab stores flags as sequences of versions."""
