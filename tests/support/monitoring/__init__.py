"""The files for Prometheus and Grafana, the metrics that the code exports, and the names in a query."""
