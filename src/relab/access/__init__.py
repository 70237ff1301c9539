"""Tokens and scopes: who may do what."""
