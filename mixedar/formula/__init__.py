"""The formula interface; use ``import mixedar.formula.api as mar``."""

from __future__ import annotations
