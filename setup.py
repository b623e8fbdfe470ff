"""The README as a package index shows it; all else is in pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).parent))

from docs import project

setup(
    long_description=project.readme_elsewhere(),
    long_description_content_type="text/markdown",
)
