"""The catalogue of faults, a file for each part of the service that they lie in."""
