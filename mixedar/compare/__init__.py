"""Several fits side by side, whatever program made them."""

from mixedar.compare.table import Comparison, compare

__all__ = ["Comparison", "compare"]
