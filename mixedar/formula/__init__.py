"""The formula interface; use ``import mixedar.formula.api as mar``."""
