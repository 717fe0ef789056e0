"""The names of metrics: which direction is better."""

LOWER_IS_BETTER = ("loss", "error", "perplexity", "mse", "rmse", "mae")
"""Endings of the names of metrics whose worst value is the highest."""
