"""Metrics for Prometheus (hast.conf(5), metrics). Nothing in here is loaded unless they are configured."""
