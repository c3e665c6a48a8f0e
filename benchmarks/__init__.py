"""Runnable measurements: `python -m benchmarks.NAME [--quick]`; each prints a table and, last, one line of JSON."""
