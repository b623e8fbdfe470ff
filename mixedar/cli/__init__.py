"""
The command line: the growth example, and fits of CSV and Parquet files.

Exit codes: 0 for results, 1 for data or models that cannot be used (one line on
stderr, no traceback), 2 for wrong usage.
"""

from __future__ import annotations

from mixedar.cli.command import main

__all__ = ["main"]
