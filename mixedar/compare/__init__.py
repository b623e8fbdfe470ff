"""Several fits side by side, whatever program made them."""

from __future__ import annotations

from mixedar.compare.table import Comparison, compare

__all__ = ["Comparison", "compare"]
