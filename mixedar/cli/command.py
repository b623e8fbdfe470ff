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
from mixedar.cli.files import as_json, parse_dates, read_table, results_as_dict
from mixedar.datasets import load_growth
from mixedar.exceptions import MixedARError, MixedARWarning
from mixedar.mixed import MixedLMAR
from mixedar.residual import resolve

_DESCRIPTION = """\
Linear mixed models with serially correlated residuals.

Without a command the growth data that ship with the package are fitted
(2,500 people at 4 times; y ~ time + treatment, a random intercept and a random
slope on time for each person, AR(1) residuals) and the summary is printed."""

_EPILOG = """\
examples:
  %(prog)s
  %(prog)s fit data.csv "y ~ x" --groups id --time t --re "~t"
  %(prog)s fit --help"""

_FIT_DESCRIPTION = """\
Fit one model to a CSV or Parquet file and print the results.

Formulas are those of statsmodels: an intercept is implied, C(x) makes a factor
of a column, np.log(x) and the other functions of NumPy may be used."""

_FIT_EPILOG = """\
examples:
  a random intercept and AR(1) residuals in the order of the rows
    %(prog)s data.csv "y ~ x" --groups id
  a random intercept and slope, AR(1) in the column t, gaps counted
    %(prog)s data.csv "y ~ x * t" --groups id --time t --re "~t"
  times at any distance, no random effects (a regression with correlated errors)
    %(prog)s data.parquet "y ~ x" --groups id --time hours --residual car1 --re 0
  an unstructured covariance of the visits (MMRM), names as in the documentation
    %(prog)s data.csv "y ~ x * C(visit)" --groups id --time visit --residual un --re 0
  patients within clinics, one series for each patient
    %(prog)s data.csv "y ~ x" --groups clinic --re "~1" \\
        --vc "patient=0 + C(patient)" --series patient --time visit
  numbers for a program
    %(prog)s data.csv "y ~ x" --groups id --json --output results.json

exit codes: 0 results were written (read the warnings), 1 the data or the model
cannot be used, 2 wrong usage"""


def parse_arguments(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """
    Read the arguments of the command line.

    Parameters
    ----------
    argv : sequence of str or None
        None for those of the process.
    prog : str
        Name of the program in messages.

    Returns
    -------
    Namespace
        ``command`` is None for the growth example, or ``"fit"``; ``vc`` maps
        names of variance components to formulas.

    Raises
    ------
    SystemExit
        With code 2 for wrong usage, 0 after ``--help`` and ``--version``.
    """
    parser = _parser(prog)
    arguments = parser.parse_args(argv)
    if arguments.command == "fit":
        components = dict(arguments.vc)
        if len(components) < len(arguments.vc):
            parser.error("argument --vc: two variance components have one name")
        arguments.vc = components
    return arguments


def _parser(prog: str) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog, description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw
    )
    parser.add_argument("--version", action="version", version=f"mixedar {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    fit = commands.add_parser(
        "fit",
        help="fit a model to a CSV or Parquet file",
        description=_FIT_DESCRIPTION,
        epilog=_FIT_EPILOG,
        formatter_class=raw,
    )
    fit.add_argument("file", help=".csv, .tsv (also .gz and the like) or .parquet")
    fit.add_argument("formula", help='response and fixed effects, such as "y ~ x"')
    model = fit.add_argument_group("model")
    model.add_argument(
        "--groups", required=True, metavar="COLUMN", help="labels of the groups"
    )
    model.add_argument(
        "--time",
        metavar="COLUMN",
        help="times: numbers, or dates such as 2024-05-31; default: order of the rows",
    )
    model.add_argument(
        "--re",
        metavar="FORMULA",
        help='random effects, such as "~t"; 0 for none; default: random intercept '
        "(none with --vc)",
    )
    model.add_argument(
        "--vc",
        action="append",
        default=[],
        type=_component,
        metavar="NAME=FORMULA",
        help='variance component, such as "ward=0 + C(ward)"; may be repeated',
    )
    model.add_argument(
        "--residual",
        type=_residual,
        default="ar1",
        metavar="NAME",
        help="correlation of the residuals within a series: independent, ar1, car1, "
        "arma11, ar2, cs, toep, ad, un, exp, gau, mat, sph, ratio, lin, with variances "
        "by occasion ar1h, csh, toeph, adh, and other names of nlme and SAS; "
        "default: ar1",
    )
    model.add_argument(
        "--series", metavar="COLUMN", help="independent series inside the groups"
    )
    model.add_argument(
        "--ml", action="store_true", help="maximum likelihood; default: REML"
    )
    model.add_argument(
        "--missing",
        choices=("drop", "raise"),
        default="raise",
        help="rows with missing values: leave out, or stop; default: raise",
    )
    output = fit.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="JSON, missing as null")
    output.add_argument("--output", metavar="FILE", help="write here, not to stdout")
    return parser


def _residual(text: str) -> str:
    """Name of a residual structure, of ``--residual``."""
    try:
        resolve(text)
    except MixedARError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _component(text: str) -> tuple[str, str]:
    """``name=formula`` of ``--vc``."""
    name, separator, formula = text.partition("=")
    if not (separator and name.strip() and formula.strip()):
        raise argparse.ArgumentTypeError(
            f'{text!r} is not NAME=FORMULA, such as "ward=0 + C(ward)"'
        )
    return name.strip(), formula.strip()


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
