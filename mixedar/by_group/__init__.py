"""
A regression of its own for each group, and what a mixed model makes of it.

Names are loaded when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixedar._lazy import lazy_names

if TYPE_CHECKING:
    from mixedar.by_group.model import ByGroupOLS, ByGroupResults, by_group
    from mixedar.by_group.shrinkage import Shrinkage


_LATER = {
    "ByGroupOLS": "mixedar.by_group.model",
    "ByGroupResults": "mixedar.by_group.model",
    "Shrinkage": "mixedar.by_group.shrinkage",
    "by_group": "mixedar.by_group.model",
}

__getattr__, __dir__ = lazy_names(globals(), _LATER)

__all__ = ["ByGroupOLS", "ByGroupResults", "Shrinkage", "by_group"]
