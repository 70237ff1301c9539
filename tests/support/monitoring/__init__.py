"""The files for Prometheus and Grafana, the exported metrics, and the names in a query."""
