"""``python -m mixedar``: the growth example, or a fit of your own file."""

import sys

from mixedar.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python -m mixedar"))
