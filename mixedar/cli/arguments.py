"""
The options of the command line and its help.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mixedar import __version__
from mixedar.exceptions import MixedARError
from mixedar.residual import resolve

__all__ = ["parse_arguments"]

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
