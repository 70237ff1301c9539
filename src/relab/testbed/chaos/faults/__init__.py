"""The catalogue of faults, one file for each part of the service that they affect."""
