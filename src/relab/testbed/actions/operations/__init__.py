"""The actions of the catalogue, a file for each part of the service that they change."""
