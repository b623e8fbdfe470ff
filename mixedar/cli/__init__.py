"""
The command line: the growth example, and fits of CSV and Parquet files.

Exit codes: 0 for results, 1 for data or models that cannot be used (one line on
stderr, no traceback), 2 for wrong usage.
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
import pandas as pd

from mixedar import __version__
from mixedar.by_group.factors import varcorr
from mixedar.cli.files import as_json, as_options, parse_dates, read_data
from mixedar.cli.no_eval import check_formula
from mixedar.data.formula.bars import read_bars
from mixedar.data.formula.names import read_formula
from mixedar.data.residual_model import default_residual
from mixedar.datasets import load_growth
from mixedar.exceptions import MixedARError, MixedARWarning
from mixedar.fit.boundary import boundary_notes
from mixedar.hypotheses.df import METHODS
from mixedar.inference.df import contrast_method, covariance
from mixedar.inference.wald import conf_int, pvalues, tvalues
from mixedar.mixed import MixedLMAR, MixedLMARResults
from mixedar.residual import resolve
from mixedar.streams import Source
from mixedar.summary.text import plain

_DESCRIPTION = """\
Linear mixed models with serially correlated residuals.

Without a command the growth data that ship with the package are fitted
(2,500 people at 4 times; y ~ time + treatment, a random intercept and a random
slope on time for each person, AR(1) residuals) and the summary is printed."""

_EPILOG = """\
examples:
  %(prog)s
  %(prog)s fit data.csv "y ~ x" --groups id --time t --re "~t"
  %(prog)s fit data.csv "y ~ x + (1 | subject) + (1 | item)"
  %(prog)s fit --help"""

_FIT_DESCRIPTION = """\
Fit one model to a CSV or Parquet file and print the results.

Formulas are those of statsmodels: an intercept is implied, C(x) makes a factor
of a column, np.log(x) and the other functions of NumPy may be used. Random effects
may be written with bars, as in lme4: (1 + x | g), (1 | a/b), (x || g). A formula is
Python: do not run one that you have not read, or use --no-eval."""

_FIT_EPILOG = """\
examples:
  a random intercept, independent residuals
    %(prog)s data.csv "y ~ x" --groups id
  a random intercept and slope, AR(1) in the column t, gaps counted
    %(prog)s data.csv "y ~ x * t" --groups id --time t --re "~t"
  times at any distance, no random effects (a regression with correlated errors)
    %(prog)s data.parquet "y ~ x" --groups id --time hours --residual car1 --re 0
  an unstructured covariance of the visits (MMRM), names as in the documentation
    %(prog)s data.csv "y ~ x * C(visit)" --groups id --time visit --residual un --re 0
  subjects and items, crossed; AR(1) over the trials of each subject
    %(prog)s data.csv "y ~ x + (1 + x | subject) + (1 | item)" \\
        --groups subject --time trial
  pupils in schools
    %(prog)s data.csv "y ~ t + (t | school/pupil)" --time t
  patients within clinics, one series for each patient
    %(prog)s data.csv "y ~ x" --groups clinic --re "~1" \\
        --vc "patient=0 + C(patient)" --series patient --time visit
  numbers for a program
    %(prog)s data.csv "y ~ x" --groups id --json --output results.json

exit codes: 0 results were written (read the warnings), 1 the data or the model
cannot be used, 2 wrong usage"""


def parse_arguments(argv: Sequence[str] | None, prog: str) -> argparse.Namespace:
    """
    The arguments of the command line.

    ``command`` is None for the growth example, or ``"fit"``; ``vc`` maps names of
    variance components to formulas.
    """
    parser = _parser(prog)
    arguments = parser.parse_args(argv)
    if arguments.command == "fit":
        components = dict(arguments.vc)
        if len(components) < len(arguments.vc):
            parser.error("argument --vc: two variance components have one name")
        if arguments.groups is None and "|" not in arguments.formula:
            parser.error(
                "the following arguments are required: --groups, unless the formula "
                'names them, as "y ~ x + (1 | subject)" does'
            )
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
    fit.add_argument(
        "file",
        help=".csv, .tsv (also .gz and the like) or .parquet; a folder or a pattern "
        "(in quotes), 'data/*.parquet', is read batch by batch",
    )
    fit.add_argument(
        "formula",
        help='response and fixed effects, such as "y ~ x", and random effects in bars, '
        'such as "y ~ x + (1 | subject) + (1 | item)"',
    )
    _add_model(fit.add_argument_group("model"))
    _add_estimation(fit.add_argument_group("estimation"))
    output = fit.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="JSON, missing as null")
    output.add_argument("--output", metavar="FILE", help="write here, not to stdout")
    fit.add_argument(
        "--memory", default="2GB", help="of a folder or pattern: bound; default: 2GB"
    )
    fit.add_argument(
        "--no-eval",
        action="store_true",
        help="for formulas of strangers: allow names of columns, numbers and listed "
        "functions only. Without it a formula may run any Python code",
    )
    return parser


def _add_model(model: argparse._ArgumentGroup) -> None:
    """Add the options that name the model."""
    model.add_argument(
        "--groups",
        metavar="COLUMN",
        help="labels of the groups; may be left out where the formula has bars, "
        "such as (1 | g)",
    )
    model.add_argument(
        "--time",
        metavar="COLUMN",
        help="times: numbers, or dates such as 2024-05-31; without them a "
        "structure that --residual names takes the order of the rows",
    )
    model.add_argument(
        "--delta",
        type=_unit,
        metavar="UNIT",
        help='the unit of time: a number, a duration such as "6 months", or auto, the '
        "common step; default: as given",
    )
    model.add_argument(
        "--re",
        metavar="FORMULA",
        help='random effects, such as "~t"; 0 for none; default: random intercept '
        "(none with --vc)",
    )
    model.add_argument(
        "--re-cov",
        choices=("unstructured", "diagonal", "compound"),
        help="covariance of the random effects of --re: any, uncorrelated, or one "
        "variance and one covariance of all; default: unstructured",
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
        default="auto",
        metavar="NAME",
        help="correlation of the residuals within a series: independent, ar1, car1, "
        "arma11, ar2, cs, toep, ad, un, exp, gau, mat, sph, ratio, lin, with variances "
        "by occasion ar1h, csh, toeph, adh, and other names of nlme and SAS; "
        "default: ar1 with --time, independent without",
    )
    model.add_argument(
        "--series", metavar="COLUMN", help="independent series inside the groups"
    )
    model.add_argument(
        "--weights",
        metavar="COLUMN",
        help="known weights, the residual variance being divided by them; or the name "
        "of a variance function that needs no column, such as varPower",
    )


def _add_estimation(model: argparse._ArgumentGroup) -> None:
    """Add the options that say how it is estimated and tested."""
    model.add_argument(
        "--df",
        choices=tuple(METHODS),
        default="containment",
        help="degrees of freedom of the fixed effects; default: containment",
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


def _unit(text: str) -> float | str:
    """A number, or a duration, of ``--delta``."""
    try:
        return float(text)
    except ValueError:
        return text


def _residual(text: str) -> str:
    """Name of a residual structure, of ``--residual``."""
    try:
        resolve(default_residual(text, None))
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
    except BrokenPipeError:  # the reader has gone (as in "| head")
        return 1
    except (ValueError, OSError, MemoryError) as error:
        # bad data are bad values: the package's own errors, those of the parsers
        # of files and those of linear algebra are all ValueErrors
        message = plain(error) or type(error).__name__
        _say(f"{prog}: error: {as_options(message)}")
        return 1
    return 0


def _say(line: str) -> None:
    """Write a line to stderr, unless that is closed."""
    if sys.stderr is not None:
        sys.stderr.write(f"{line}\n")


def _growth() -> str:
    """The summary of the growth example, as text."""
    data = load_growth()
    model = MixedLMAR.from_formula(
        "y ~ time + treatment", data, groups="id", re_formula="~time", time="time"
    )
    return str(model.fit().summary())


def _fit(arguments: argparse.Namespace, messages: Sequence[str]) -> str:
    """The results of ``fit``, as text."""
    formulas = [arguments.formula, arguments.re or "", *arguments.vc.values()]
    if arguments.output is not None:
        _check_output(Path(arguments.output), Path(arguments.file))
    if arguments.no_eval:  # before anything reads them
        for formula in formulas:
            check_formula(formula)
    data = read_data(arguments.file, _labels(arguments, formulas), arguments.memory)
    if arguments.no_eval:
        for formula in formulas:
            check_formula(formula, data.columns)
    if not isinstance(data, Source) and arguments.time in data.columns:
        data[arguments.time] = parse_dates(data[arguments.time])
    model = MixedLMAR.from_formula(
        arguments.formula,
        data,
        groups=arguments.groups,
        time=arguments.time,
        delta=arguments.delta,
        re_formula=arguments.re,
        vc_formula=arguments.vc or None,
        residual=arguments.residual,
        series=arguments.series,
        weights=arguments.weights,
        missing=arguments.missing,
        eval_env={"np": np},
        # beside bars it may not be given
        **({"re_cov": arguments.re_cov} if arguments.re_cov else {}),
    )
    fit = model.fit(reml=not arguments.ml).with_df(arguments.df)
    if not arguments.json:
        return str(fit.summary())
    results = {
        "mixedar": __version__,
        "formula": arguments.formula,
        **_numbers(fit),
        "warnings": list(messages),
    }
    return as_json(results)


def _labels(arguments: argparse.Namespace, formulas: Sequence[str]) -> set[str]:
    """Columns of labels: groups, series, and factors of the formulas."""
    _, bars = read_bars(arguments.formula)
    uses = [read_formula(formula, {}) for formula in formulas]
    coded = frozenset[str]().union(*(use.coded for use in uses))
    numeric = frozenset[str]().union(*(use.terms | use.elementwise for use in uses))
    named = {name for bar in bars for name in bar.factor}
    given = {arguments.groups, arguments.series} - {None}
    return given | named | (coded - numeric)


def _check_output(output: Path, data: Path) -> None:
    """Raise if the results cannot go where they shall, or would replace the data."""
    if output.exists() and data.exists() and output.samefile(data):
        raise MixedARError(f"{output}: --output is the file of the data; name another")
    if not output.absolute().parent.is_dir():
        raise MixedARError(f"{output}: --output is in a folder that does not exist")


def _write(text: str, path: str | None) -> None:
    if path is not None:
        Path(path).write_text(text + "\n", encoding="utf-8")
        return
    if sys.stdout is None:
        raise MixedARError("the standard output is closed; write to a file, --output")
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError:
        # the interpreter must not complain when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


@contextmanager
def _warnings_as_lines(prog: str) -> Iterator[list[str]]:
    """Warnings on stderr, a line each; the list collects them."""
    messages: list[str] = []

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        text = as_options(plain(message))
        messages.append(text)
        _say(f"{prog}: warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", MixedARWarning)
        warnings.showwarning = show
        yield messages


def _numbers(results: MixedLMARResults) -> dict[str, Any]:
    """Numbers of a fit under plain names; matrices with the names of their rows."""
    fit = results.fit
    names, p = fit.names, fit.k_fe
    se, interval = np.sqrt(np.diag(covariance(fit))), conf_int(fit).tolist()
    t, pvalue = tvalues(fit), pvalues(fit)
    df = contrast_method(fit).single(np.eye(p))
    columns = {"estimate": fit.params, "se": se, "t": t, "p": pvalue, "ci": interval}
    frame = pd.DataFrame(columns, index=names)
    fixed = frame[:p].assign(df=df)[["estimate", "se", "df", "t", "p", "ci"]]
    # a parameter that is held, or lies on a boundary, has no standard error
    parameters = frame[p:][["estimate", "se", "ci"]]
    parameters = parameters.assign(se=parameters["se"].where(parameters["se"] > 0.0))
    correlation = contrast_method(fit).cov / np.outer(se[:p], se[:p])
    return {
        "method": fit.method,
        "residual": fit.structure.label,
        "converged": fit.converged,
        "at_boundary": fit.singular or fit.estimate.residual_at_boundary,
        "boundary_notes": [as_options(note) for note in boundary_notes(fit)],
        "df_method": fit.df_method.name,
        "nobs": fit.nobs,
        "n_groups": fit.n_groups,
        "n_levels": {fit.data.groups_name: fit.n_groups, **dict(fit.factor_levels)},
        "llf": fit.llf,
        "aic": fit.aic,
        "bic": fit.bic,
        "scale": fit.scale,
        "fixed_effects": fixed.to_dict("index"),
        "fixed_effects_correlation": {"names": names[:p], "values": correlation},
        "cov_re": {"names": fit.effect_names[: fit.k_re], "values": fit.cov_re},
        "varcorr": varcorr(fit).reset_index().to_dict("records"),
        "vcomp": dict(zip(fit.effect_names[fit.k_re :], fit.vcomp, strict=False)),
        "residual_params": results.residual_params.to_dict(),
        "covariance_parameters": parameters.to_dict("index"),
        "residual_quantiles": (
            results.std_residual_quantiles.to_dict() if fit.has_data else None
        ),
        "time_unit": fit.time_unit,
        "modes": [mode.estimate.llf for mode in fit.modes],
    }
