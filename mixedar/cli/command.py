"""
What the command line does with its arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mixedar import __version__
from mixedar.cli.arguments import parse_arguments
from mixedar.cli.numbers import as_json, results_as_dict
from mixedar.cli.table import parse_dates, read_table
from mixedar.datasets import load_growth
from mixedar.exceptions import MixedARWarning
from mixedar.mixed import MixedLMAR

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, prog: str = "mixedar") -> int:
    """
    Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; those of the process by default.
    prog : str
        Name of the program in messages.

    Returns
    -------
    int
        Exit code: 0, or 1 if the data or the model cannot be used.

    Raises
    ------
    SystemExit
        With code 2 for wrong usage, 0 after ``--help`` and ``--version``.
    """
    arguments = parse_arguments(argv, prog)
    try:
        with _warnings_as_lines(prog) as messages:
            fits = arguments.command is not None
            text = _fit(arguments, messages) if fits else _growth()
        _write(text, getattr(arguments, "output", None))
    except BrokenPipeError:
        # the reader has gone (as in "| head"): nothing is left to say, and the
        # interpreter must not complain when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, MemoryError) as error:
        # bad data are bad values: the package's own errors, those of the parsers
        # of files and those of linear algebra are all ValueErrors
        message = _one_line(str(error)) or type(error).__name__
        message = message.replace('missing="drop"', "--missing drop").replace(
            "missing='drop'", "--missing drop"
        )
        sys.stderr.write(f"{prog}: error: {message}\n")
        return 1
    return 0


def _growth() -> str:
    """The main job."""
    data = load_growth()
    model = MixedLMAR.from_formula(
        "y ~ time + treatment", data, groups="id", re_formula="~time", time="time"
    )
    return str(model.fit().summary())


def _fit(arguments: argparse.Namespace, messages: Sequence[str]) -> str:
    """The results of ``fit``, as text."""
    labels = [name for name in (arguments.groups, arguments.series) if name]
    data = read_table(arguments.file, labels)
    if arguments.time in data.columns:
        data[arguments.time] = parse_dates(data[arguments.time])
    model = MixedLMAR.from_formula(
        arguments.formula,
        data,
        groups=arguments.groups,
        time=arguments.time,
        re_formula=arguments.re,
        vc_formula=arguments.vc or None,
        residual=arguments.residual,
        series=arguments.series,
        missing=arguments.missing,
        eval_env={"np": np},
    )
    fit = model.fit(reml=not arguments.ml)
    if not arguments.json:
        return str(fit.summary())
    results = {
        "mixedar": __version__,
        "formula": arguments.formula,
        **results_as_dict(fit),
        "warnings": list(messages),
    }
    return as_json(results)


def _write(text: str, path: str | None) -> None:
    if path is None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    else:
        Path(path).write_text(text + "\n", encoding="utf-8")


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def _warnings_as_lines(prog: str) -> Iterator[list[str]]:
    """Warnings on stderr, a line each; the list collects them."""
    messages: list[str] = []

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = _one_line(str(message))
        messages.append(text)
        sys.stderr.write(f"{prog}: warning: {text}\n")

    with warnings.catch_warnings():
        warnings.simplefilter("always", MixedARWarning)
        warnings.showwarning = show
        yield messages
