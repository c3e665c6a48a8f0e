"""Replay: sum tree, buffers, rate limiter. NumPy only."""
