"""Intervals of covariance parameters."""
