"""
The examples of README.md and docs/*.md: found, run, compared, written anew.

A ```` ```python ```` block is run; the ```` ```text ```` block that follows it, if
any, is what it prints.  In a ```` ```console ```` block each ``$ python -m mixedar``
line is run and the lines below are its output.  All blocks of a page share one
namespace and one empty folder, in their order.  Other blocks are not run.

``python tests/doc_pages.py`` writes the outputs into the pages anew; read the
difference before you keep it.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import warnings
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")
_COMMAND = "$ python -m mixedar"
