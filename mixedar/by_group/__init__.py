"""
A regression of its own for each group, and what a mixed model makes of it.
"""

from __future__ import annotations

from mixedar.by_group.model import ByGroupOLS, ByGroupResults, by_group
from mixedar.by_group.shrinkage import Shrinkage

__all__ = ["ByGroupOLS", "ByGroupResults", "Shrinkage", "by_group"]
