"""``python -m mixedar``: the growth example, or a fit of your own file."""

from __future__ import annotations

import sys

from mixedar.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m mixedar"))
