"""
Residual structures, one to a file, and the registry that finds them by name.
"""

from __future__ import annotations

from mixedar.residual.ar1 import AR1, CAR1
from mixedar.residual.arma import ARMA
from mixedar.residual.base import (
    DataLayout,
    FormulaStructure,
    Mark,
    ResidualStructure,
)
from mixedar.residual.checking import check_structure
from mixedar.residual.markov import Independent, MarkovStructure
from mixedar.residual.nesting import Nesting, nesting
from mixedar.residual.occasions import (
    AnteDependence,
    CompoundSymmetry,
    Toeplitz,
    Unstructured,
)
from mixedar.residual.registry import STRUCTURES, combine, resolve
from mixedar.residual.spatial import (
    Exponential,
    Gaussian,
    Linear,
    Matern,
    RationalQuadratic,
    Spherical,
)
from mixedar.residual.wrapped import Heteroscedastic, Nugget, Stratified

__all__ = [
    "AR1",
    "ARMA",
    "CAR1",
    "STRUCTURES",
    "AnteDependence",
    "CompoundSymmetry",
    "DataLayout",
    "Exponential",
    "FormulaStructure",
    "Gaussian",
    "Heteroscedastic",
    "Independent",
    "Linear",
    "Mark",
    "MarkovStructure",
    "Matern",
    "Nesting",
    "Nugget",
    "RationalQuadratic",
    "ResidualStructure",
    "Spherical",
    "Stratified",
    "Toeplitz",
    "Unstructured",
    "check_structure",
    "combine",
    "nesting",
    "resolve",
]
