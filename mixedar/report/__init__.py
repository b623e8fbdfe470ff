"""
A fit as one HTML file: tables, pictures, diagnosis, call and versions.
"""

from __future__ import annotations
