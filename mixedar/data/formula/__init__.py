"""Formula and DataFrame to aligned arrays; the only user of the formula engine."""

from __future__ import annotations

from mixedar.data.formula.build import Design, build_design
from mixedar.data.formula.components import VarianceComponent, vc_spec
from mixedar.data.formula.names import as_namespace, capture_namespace
from mixedar.data.formula.spec import FormulaSpec, design_for
from mixedar.data.rows import as_frame

__all__ = [
    "Design",
    "FormulaSpec",
    "VarianceComponent",
    "as_frame",
    "as_namespace",
    "build_design",
    "capture_namespace",
    "design_for",
    "vc_spec",
]
