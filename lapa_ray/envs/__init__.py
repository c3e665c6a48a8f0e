"""Environments over ALEInterface. Knows neither torch nor ray."""
