"""
Numbers that carry their first and second derivatives.
"""

from mixedar.jets.algebra import (
    chain,
    clip,
    concatenate,
    embed,
    inverse_derivatives,
    solve,
    stack,
    variables,
)
from mixedar.jets.jet import Jet

__all__ = [
    "Jet",
    "chain",
    "clip",
    "concatenate",
    "embed",
    "inverse_derivatives",
    "solve",
    "stack",
    "variables",
]
