"""Panel estimators: fixed and random effects and their relatives."""
