"""Smooth functions of covariates: penalised bases as random effects."""
