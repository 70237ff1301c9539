"""The implementations of the actions, in one file for each part of the service that they change."""
