"""Formula and DataFrame to aligned arrays; the only user of the formula engine."""

from mixedar.design.build import build_design
from mixedar.design.columns import as_frame
from mixedar.design.components import VarianceComponent, vc_spec
from mixedar.design.formula_columns import formula_matrices, formula_variables
from mixedar.design.record import Design
from mixedar.design.rows import as_namespace, capture_namespace
from mixedar.design.spec import FormulaSpec, design_for

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
