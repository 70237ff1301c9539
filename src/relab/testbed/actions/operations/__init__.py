"""The actions of the catalogue, one file for each part of the service that they change."""
