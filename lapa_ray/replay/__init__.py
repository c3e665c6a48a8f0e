"""Replay: sum tree, frame ring, uniform and prioritised buffers, rate limiter. NumPy only."""
