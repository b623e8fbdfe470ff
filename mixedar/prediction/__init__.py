"""Predictions of a fit: population, group, and forecasts that use the residuals."""
