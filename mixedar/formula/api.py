"""Lower-case functions that take a formula and a DataFrame."""

from mixedar.mixed import MixedLMAR

__all__ = ["mixedlm"]

mixedlm = MixedLMAR.from_formula
