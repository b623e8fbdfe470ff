"""
Choosing a residual structure: several fitted to the same data.
"""

from __future__ import annotations

from mixedar.selection.select import (
    DEFAULT_STRUCTURES,
    ResidualSelection,
    select_residual,
)

__all__ = ["DEFAULT_STRUCTURES", "ResidualSelection", "select_residual"]
