"""Prior distributions for ``fit.posterior(priors={...})``."""

from mixedar.posterior.priors import (
    LKJ,
    PC,
    Beta,
    ExponentialPrior,
    HalfNormal,
    HalfT,
    LogNormal,
    Normal,
    Prior,
    Uniform,
)

#: of a standard deviation; the residual structure of that name is another thing
Exponential = ExponentialPrior

__all__ = [
    "LKJ",
    "PC",
    "Beta",
    "Exponential",
    "HalfNormal",
    "HalfT",
    "LogNormal",
    "Normal",
    "Prior",
    "Uniform",
]
