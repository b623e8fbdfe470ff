"""A fitted model: what every question asked of it reads."""

from mixedar.fit.fit import Fit

__all__ = ["Fit"]
