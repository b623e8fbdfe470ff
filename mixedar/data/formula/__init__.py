"""Formula and DataFrame to aligned arrays; the only user of the formula engine."""

from __future__ import annotations

from mixedar.data.formula.build import Design, build_design
from mixedar.data.formula.components import VarianceComponent
from mixedar.data.formula.names import as_namespace, capture_namespace
from mixedar.data.formula.spec import FormulaSpec

__all__ = [
    "Design",
    "FormulaSpec",
    "VarianceComponent",
    "as_namespace",
    "build_design",
    "capture_namespace",
]
