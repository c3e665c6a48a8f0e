"""Metrics, figures and the report. Knows no ray."""
