"""
Pictures of fits; matplotlib is imported only when one is drawn.
"""

from __future__ import annotations
