"""
What a report says of the data, and the call that makes the fit again.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.formula.bars import Bar, read_bars
from mixedar.data.formula.smooth_calls import read_smooths
from mixedar.data.formula.terms import levels_of_formula
from mixedar.data.model_data import ModelData
from mixedar.data.residual_model import DEFAULT_RESIDUAL
from mixedar.data.variables import varies_in_groups
from mixedar.fit import Fit
from mixedar.hypotheses.df import resolve_df

# Arguments of a model, in the order in which they are written.
_ORDER = ("groups", "re_formula", "vc_formula", "re_cov", "time", "series", "residual")
# Defaults of those that are not None.
_USUAL = {
    "residual": DEFAULT_RESIDUAL,
    "missing": "none",
    "use_sparse": False,
    "use_sqrt": True,
    "re_cov": "unstructured",
}
# So many levels of a factor are listed with their counts.
_MOST_LEVELS = 6
_WIDTH = 76
_PACKAGES = ("mixedar", "statsmodels", "numpy", "scipy", "pandas", "matplotlib")
# Longer lists are values of the rows.
_MOST_NAMES = 20


def data_facts(data: ModelData) -> pd.DataFrame:
    """Numbers of rows and groups, and when observations were made, as texts."""
    sizes = data.group_sizes
    low, high = int(sizes.min()), int(sizes.max())
    several = f"{low} to {high}, on average {sizes.mean():.4g}"
    facts = {
        "Observations": f"{data.nobs:,}",
        "Groups": f"{data.n_groups:,}",
        "Observations a group": f"{low}" if low == high else several,
    }
    if data.formula is not None:
        facts["Column of the groups"] = data.groups_name
    if data.series is not None:
        named = getattr(data.series, "name", None)
        facts["Series inside groups"] = str(named or "given as an array")
    if data.time is None:
        facts["Time"] = "the order of the rows"
        return pd.DataFrame({"value": facts})
    time = pd.Series(data.time)
    named = data.time_name or time.name or "given as an array"
    facts["Time"] = f"{named}: {_short(time.min())} to {_short(time.max())}"
    if data.residual.k_params:
        unit, gaps = data.time_unit, data.grouped.gaps
        facts["Unit of time"] = "as given" if unit == "1" else unit
        if (gaps > 0.0).any():
            facts["Distance of neighbours"] = _range(gaps[gaps > 0.0])
    return pd.DataFrame({"value": facts})


def _range(values: FloatArray) -> str:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return f"{low:.6g}, all equal"
    return f"{low:.6g} to {high:.6g}, mostly {float(np.median(values)):.6g}"


def variables_used(data: ModelData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """
    The variables of a model.

    Parameters
    ----------
    data : ModelData

    Returns
    -------
    numeric : DataFrame
        Mean, standard deviation (of rows), smallest and largest value, number
        of distinct values, and where it varies.
    factors : DataFrame of str
        Levels with their numbers of rows, and where they vary.
    """
    numeric: dict[Any, dict[str, Any]] = {}
    factors: dict[Any, dict[str, Any]] = {}
    spec = data.formula_spec
    labels = {} if spec is None else levels_of_formula(spec)
    for name, column in _columns(data).items():
        column = column.reset_index(drop=True)
        where = "between groups" if column.nunique() > 1 else "nowhere"
        if varies_in_groups(column, data.codes):
            where = "within groups"
        is_number = pd.api.types.is_numeric_dtype(column.dtype)
        if is_number and column.dtype != bool and name not in labels:
            values = column.astype(float)
            numeric[name] = {
                "Mean": values.mean(),
                "Std.Dev.": values.std(),
                "Min": values.min(),
                "Max": values.max(),
                "Distinct": f"{column.nunique():,}",
                "Varies": where,
            }
        else:
            factors[name] = {"Values": _levels(column), "Varies": where}
    return pd.DataFrame(numeric).T, pd.DataFrame(factors).T


def _columns(data: ModelData) -> dict[Any, pd.Series]:
    """The response, then the columns that the formulas name."""
    found: dict[Any, pd.Series] = {data.endog_name: pd.Series(data.endog)}
    if data.frame is None or data.formula_spec is None:
        design = pd.DataFrame(data.exog, columns=data.exog_names)
        return found | dict(design.loc[:, np.ptp(data.exog, axis=0) > 0.0])
    wanted = list(data.formula_spec.variables)
    if data.re_spec is not None:
        wanted += data.re_spec.variables
    for name in dict.fromkeys([*wanted, data.time_name]):
        if name in data.frame.columns:
            found[name] = data.frame[name]
    return found


def _levels(column: pd.Series) -> str:
    counts = column.value_counts(sort=False)
    if len(counts) > _MOST_LEVELS:
        shown = f"{len(counts):,} values"
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            shown += f", {_short(column.min())} to {_short(column.max())}"
        return shown
    counts = counts.sort_index()
    return ", ".join(f"{level} ({count:,})" for level, count in counts.items())


def _short(value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return str(value.date()) if value == value.normalize() else str(value)
    return f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)


def versions(fit: Fit) -> pd.DataFrame:
    """Versions of Python and the packages that made a fit."""
    found = {"Python": platform.python_version()}
    spec = fit.data.formula_spec if fit.has_data else None
    for name in (*_PACKAGES, *([] if spec is None else [str(spec.engine)])):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return pd.DataFrame({"Version": found})


def call_text(
    fit: Fit, words: Mapping[str, Any], written: Mapping[str, Any] | None = None
) -> str:
    """
    The call that made a fit.

    Parameters
    ----------
    fit : Fit
    words : mapping of str to object
        What the caller said of the residuals and the rows.
    written : mapping of str to object, optional
        All arguments as they were written, if the model is from a formula; those that
        have their default were not.

    Returns
    -------
    str
        Python code; ``data`` stands for the caller's DataFrame, and names of
        the constructor's arguments for arrays.
    """
    data, classes = fit.data, set[type]()
    arrays = data.formula is None
    if written is not None:
        given = _as_written(written, words, classes)
    else:
        given = _arrays(data) if arrays else _columns_and_formulas(data)
        given += _arguments(words, classes)
        given += _held(data, arrays)
    lines = {f"from {_home(one)} import {one.__name__}" for one in classes}
    if arrays:
        function, first = "MixedLMAR", "from mixedar import MixedLMAR"
    else:
        function, first = "mar.mixedlm", "import mixedar.formula.api as mar"
    options = [] if fit.reml else ["reml=False"]
    if not np.array_equal(fit.layout.is_free, data.layout().is_free):
        options.append("free=free")
    call = f"model = {function}({', '.join(given)})"
    if len(call) > _WIDTH:
        inside = "".join(f"    {one},\n" for one in given)
        call = f"model = {function}(\n{inside})"
    head = "\n".join([first, *sorted(lines)])
    tests = "".join(f"\nfit = fit.{one}" for one in _tests(fit))
    return f"{head}\n\n{call}\nfit = model.fit({', '.join(options)}){tests}"


def _tests(fit: Fit) -> list[str]:
    """Methods that chose how the fixed effects are tested."""
    found, method = [], fit.df_method
    if fit.robust is not None:
        found.append(f"get_robustcov_results({_quoted(fit.robust.cov_type)})")
    if method.name == "given":
        found.append(f"with_df({method.value:g})")
    elif method.name != ("containment" if fit.robust is None else "satterthwaite"):
        usual = resolve_df(method.name)
        options = [
            f"{name}={_quoted(getattr(method, name))}"
            for name in ("kr", "information")
            if getattr(method, name) != getattr(usual, name)
        ]
        found.append(f"with_df({', '.join([_quoted(method.name), *options])})")
    return found


def _home(kind: type) -> str:
    """The module that offers a class to users."""
    own = kind.__module__.partition(".")[0] == "mixedar"
    return "mixedar.api" if own else kind.__module__


def _as_written(
    written: Mapping[str, Any], words: Mapping[str, Any], classes: set[type]
) -> list[str]:
    """Arguments of a model from a formula."""
    subset = {"subset": words.get("subset")}
    rest = {name: written[name] for name in _ORDER if name in written} | subset
    rest |= {k: v for k, v in written.items() if k not in rest and k != "formula"}
    formula = value_text(written["formula"], "formula", classes)
    return [formula, "data", *_arguments(rest, classes)]


def _arguments(given: Mapping[str, Any], classes: set[type]) -> list[str]:
    """Arguments by name, without those that have their default."""
    return [
        f"{name}={value_text(value, name, classes)}"
        for name, value in given.items()
        if not _same(value, _USUAL.get(name))
    ]


def _held(data: ModelData, arrays: bool) -> list[str]:
    """Unit of time, offset, known scale and kind of covariance."""
    given = []
    if data.delta is not None:
        given.append(f"delta={data.delta!r}")
    if data.offset is not None:
        known = not arrays and data.offset_name is not None
        given.append(f"offset={data.offset_name!r}" if known else "offset=offset")
    if data.scale is not None:
        given.append(f"scale={data.scale!r}")
    bars = () if data.formula is None else _bars(data.formula)
    if data.re_cov != "unstructured" and not bars:
        given.append(f"re_cov={_quoted(data.re_cov)}")
    return given


def _bars(formula: str) -> tuple[Bar, ...]:
    """The random effects that are written into a formula."""
    return read_bars(read_smooths(formula)[0])[1]


def _columns_and_formulas(data: ModelData) -> list[str]:
    """Formulas and columns of a model with another response than was written."""
    bars = _bars(str(data.formula))

    def column(name: object, argument: str) -> str:
        frame = data.frame
        known = frame is not None and name in {*frame.columns, *frame.index.names}
        return f"{argument}={_quoted(str(name))}" if known else f"{argument}={argument}"

    given = [_quoted(str(data.formula)), "data"]
    # smooths alone: nothing binds rows together, and the caller named no groups
    additive = data.has_shared_smooths and data.n_groups == data.nobs
    if data.groups_name in {bar.name for bar in bars}:
        given.append(f"groups={_quoted(data.groups_name)}")
    elif bars or not additive:
        given.append(column(data.groups_name, "groups"))
    if data.re_formula is not None and not bars and not additive:
        given.append(f"re_formula={_quoted(data.re_formula)}")
    if data.vc_formula:
        given.append(f"vc_formula={value_text(dict(data.vc_formula), '', set())}")
    if data.time is not None:
        given.append(column(data.time_name, "time"))
    if data.series is not None:
        given.append(column(getattr(data.series, "name", None), "series"))
    return given


def _arrays(data: ModelData) -> list[str]:
    given = ["endog", "exog", "groups"]
    x = data.exog_re
    if x is not None and not (x.shape[1] == 1 and (x == 1.0).all()):
        given.append("exog_re=exog_re")
    if data.k_vc:
        given.append("exog_vc=exog_vc")
    for name in ("time", "series"):
        if getattr(data, name) is not None:
            given.append(f"{name}={name}")
    return given


def _quoted(text: str) -> str:
    """A text in double quotes, as formatters write it."""
    plain = repr(text)
    if '"' in text or plain[0] != "'":
        return plain
    return '"' + plain[1:-1].replace("\\'", "'") + '"'


def value_text(value: object, what: str, classes: set[type]) -> str:
    """
    An argument as it is written in a call.

    Parameters
    ----------
    value : object
        A text, a number, a residual structure or a variance function; what
        else there may be goes by the argument's name.
    what : str
        The argument.
    classes : set of type
        Classes that have to be imported are added.

    Returns
    -------
    str
        A structure's code, such as ``'"ar1"'``, unless it has arguments.
    """
    if isinstance(value, str):
        return _quoted(value)
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, list):
        if len(value) > _MOST_NAMES:
            return what
        return f"[{', '.join(value_text(one, what, classes) for one in value)}]"
    if isinstance(value, tuple):
        inner = [value_text(one, what, classes) for one in value]
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    if isinstance(value, Mapping):
        pairs = [
            f"{value_text(k, what, classes)}: {value_text(v, what, classes)}"
            for k, v in value.items()
        ]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, type):
        classes.add(value)
        return value.__name__
    if not is_dataclass(value):
        return what
    if hasattr(value, "functions"):  # given one after another
        arguments = [value_text(one, what, classes) for one in value.functions]
    else:
        arguments = [
            f"{one.name}={value_text(getattr(value, one.name), one.name, classes)}"
            for one in fields(value)
            if one.init
            and one.repr
            and not _same(getattr(value, one.name), one.default)
        ]
    code = getattr(value, "code", None)
    if not arguments and what == "residual" and isinstance(code, str):
        return _quoted(code)
    classes.add(type(value))
    return f"{type(value).__name__}({', '.join(arguments)})"


def _same(value: object, default: object) -> bool:
    plain = isinstance(value, (str, bool, int, float, tuple))
    return value is default or (plain and value == default)
