"""Formula and DataFrame to aligned arrays; the only user of the formula engine."""

from mixedar.design.build import build_design
from mixedar.design.components import VarianceComponent, vc_spec
from mixedar.design.record import Design
from mixedar.design.rows import capture_namespace
from mixedar.design.spec import FormulaSpec, design_for

__all__ = [
    "Design",
    "FormulaSpec",
    "VarianceComponent",
    "build_design",
    "capture_namespace",
    "design_for",
    "vc_spec",
]
