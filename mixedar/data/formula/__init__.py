"""Formula and DataFrame to aligned arrays; the only user of the formula engine."""

from __future__ import annotations

from mixedar.data.formula.build import (
    Design,
    build_design,
    formula_matrices,
    formula_variables,
)
from mixedar.data.formula.columns import as_frame
from mixedar.data.formula.components import VarianceComponent, vc_spec
from mixedar.data.formula.spec import FormulaSpec, design_for
from mixedar.data.rows import as_namespace, capture_namespace

__all__ = [
    "Design",
    "FormulaSpec",
    "VarianceComponent",
    "as_frame",
    "as_namespace",
    "build_design",
    "capture_namespace",
    "design_for",
    "formula_matrices",
    "formula_variables",
    "vc_spec",
]
