"""
Columns of the data as formulas need them, and what names that are none may mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.data.formula.names import QUOTED, FormulaUse, plain_terms
from mixedar.data.rows import near_matches, numeric_values
from mixedar.exceptions import MixedARError, shown

_DATES = ("date", "datetime", "datetime64", "timedelta", "timedelta64", "period")
_Q_CALL = re.compile(r"""Q\((['"])(.*)\1\)""")


def days_of(values: pd.Series, column: str) -> str:
    """How a number is made of a date, duration or period; empty for others."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind not in _DATES or isinstance(values.dtype, pd.CategoricalDtype):
        return ""
    if kind == "period":
        return f"{column}.astype('int64')"
    if kind.startswith("timedelta"):
        return f"{column} / pandas.Timedelta('1 day')"
    if values.dtype == object:
        column = f"pandas.to_datetime({column})"
    return f"({column} - {column}.min()).dt.days"


def made_numeric(values: pd.Series, column: str) -> str:
    """How numbers are made of a response that holds none."""
    days = days_of(values, column)
    if days:
        return f"convert it, for example with {days}"
    if pd.api.types.is_complex_dtype(values):
        return f"take a part of it, such as numpy.real({column}) or numpy.abs({column})"
    numbers = pd.to_numeric(values.astype(object), errors="coerce")
    text = values[numbers.isna() & values.notna()]
    if len(text):
        return (
            f"it holds {shown(text.iloc[0])}: correct such values, or make them "
            f"missing by pandas.to_numeric({column}, errors='coerce')"
        )
    return "convert it, for example with .astype(float)"


def check_no_date(values: pd.Series, name: str, use: FormulaUse) -> None:
    """Raise if a term of a formula is a date, of which engines make a factor."""
    quoted = _Q_CALL.fullmatch(name)
    days = days_of(values, f"data[{(quoted[2] if quoted else name)!r}]")
    if not days:
        return
    example = f", such as data['days'] = {days}"
    example = example if quoted or name in use.names else ""
    raise MixedARError(
        f"{name!r} in the formula {use.formula!r} is a date or duration, and would "
        "have a coefficient for each of its values; make a number of it with its unit"
        f"{example}, or write C({name}) if a factor is meant"
    )


class ColumnStore:
    """
    The data's columns as the formulas need them, each converted once.

    Parameters
    ----------
    columns : Mapping[str, pandas.Series]
        The columns that the formulas name, restricted to the rows kept.
    index : pandas.Index
        Their index.
    available : list
        All names in the data, for messages.
    """

    def __init__(
        self,
        columns: Mapping[str, pd.Series],
        index: pd.Index,
        available: list[Any],
    ) -> None:
        self.columns = dict(columns)
        self.index = index
        self.available = available
        self._categories: dict[str, pd.Series] = {}
        self._text: dict[str, bool] = {}

    def category(self, name: str) -> pd.Series:
        """The column `name` as a categorical with sorted levels."""
        if name not in self._categories:
            column = self.columns[name]
            if not isinstance(column.dtype, pd.CategoricalDtype):
                codes, levels = column.factorize(sort=True)
                values = np.asarray(levels)
                if values.dtype.kind not in "if":  # as the engines find them
                    values = values.astype(object)
                array = pd.Categorical.from_codes(codes, categories=pd.Index(values))
                column = pd.Series(array, column.index, name=name, copy=False)
            self._categories[name] = column
        return self._categories[name]

    def unused(self, name: str, use: FormulaUse) -> list[Any]:
        """Levels of a categorical column without rows, where they can be left out."""
        dtype = self.columns[name].dtype
        direct = use.terms | use.coded | use.quoted
        if not isinstance(dtype, pd.CategoricalDtype) or name not in direct:
            return []
        if name in use.elementwise | use.levelled | (use.opaque - use.quoted):
            return []
        counts = np.bincount(self.columns[name].cat.codes + 1, minlength=1)
        counts = np.append(counts, np.zeros(len(dtype.categories), dtype=np.intp))
        return [v for v, k in zip(dtype.categories, counts[1:], strict=False) if not k]

    def is_text(self, name: str) -> bool:
        """Whether all values of the column are strings (or missing)."""
        if name not in self._text:
            column, types = self.columns[name], pd.api.types
            if column.dtype == object:
                found = types.infer_dtype(column, skipna=True) == "string"
            else:
                coded = isinstance(column.dtype, pd.CategoricalDtype)
                found = types.is_string_dtype(column.dtype) and not coded
            self._text[name] = found
        return self._text[name]

    def is_coded(self, name: str, use: FormulaUse) -> bool:
        """Whether the column can be a categorical without changing a thing."""
        direct = name in use.terms or name in use.coded
        if not direct or name in use.elementwise | use.opaque | use.levelled:
            return False
        if self.is_text(name):
            return True
        kind = numeric_values(self.columns[name].iloc[:0]).dtype
        only_coded = name in use.coded and name not in use.terms
        return only_coded and isinstance(kind, np.dtype) and kind.kind in "iuf"

    def frame(self, use: FormulaUse) -> pd.DataFrame:
        """The columns of one formula, ready for the engine (no copies)."""
        names = [name for name in self.columns if name in use.names]
        for name in names:
            if name in use.terms - use.coded:
                check_no_date(self.columns[name], name, use)
            quoted = use.quoted if "C" not in use.functions else set()
            if name in (use.terms - use.coded) | use.elementwise | quoted:
                self.check_numbers(name, use)
        prepared = {
            name: self.category(name)
            if self.is_coded(name, use)
            else numeric_values(self.columns[name])
            for name in names
        }
        for name in names:
            if self.unused(name, use):
                prepared[name] = prepared[name].cat.remove_unused_categories()
        return pd.DataFrame(prepared, index=self.index, copy=False)

    @staticmethod
    def is_separable(frame: pd.DataFrame, use: FormulaUse) -> bool:
        """Whether the dtypes alone tell how the engine codes each column."""
        return all(
            isinstance(dtype, pd.CategoricalDtype)
            or (
                isinstance(dtype, np.dtype)
                and dtype.kind in "biuf"
                and name not in use.coded  # its levels depend on the values
            )
            for name, dtype in frame.dtypes.items()
        )

    def check_numbers(self, name: str, use: FormulaUse) -> None:
        """Raise for numbers held as objects or text, which would become levels."""
        column = self.columns[name]
        kind = "" if column.dtype != object else pd.api.types.infer_dtype(column)
        numbers = kind in ("integer", "floating", "mixed-integer-float", "decimal")
        if not numbers and self.is_text(name):
            levels = pd.Series(self.category(name).cat.categories, dtype=object)
            parsed = pd.to_numeric(levels, errors="coerce").notna()
            numbers = len(levels) > max(10, len(column) // 2) and parsed.mean() > 0.9
        if numbers:
            raise MixedARError(
                f"column {name!r} in the formula {use.formula!r} is of dtype "
                f"{column.dtype}, with {column.nunique()} levels that are numbers; "
                f"convert it to numbers, data[{name!r}] = "
                f"pandas.to_numeric(data[{name!r}], errors='coerce'), or write "
                f"C({name}) if levels are meant"
            )


_NUMPY = "log log2 log10 log1p exp expm1 sqrt abs sin cos tan floor ceil"
_SHIFTED = {
    "lag": ".shift(1)",
    "L": ".shift(1)",
    "lead": ".shift(-1)",
    "F": ".shift(-1)",
    "diff": ".diff()",
    "D": ".diff()",
}
# What to write for a call; {x} is its first argument, {all} are all of them.
_CALLS = {
    **dict.fromkeys(_NUMPY.split(), "np.{name}({all}), after import numpy as np"),
    **dict.fromkeys(("factor", "ordered", "dummy", "i"), "C({x})"),
    **dict.fromkeys(("poly", "pol", "polym"), "{x} + I({x}**2), or bs({x}, df=4)"),
    "Error": "({x}) as random effects: (1 | {x}), in mixedlm",
    "t2": "te({all}), which holds main effects, or ti({all}) beside them, in mixedlm",
    **dict.fromkeys(("lo", "loess"), "s({x}) for a smooth, in mixedlm"),
    **dict.fromkeys(
        ("cbind", "c"),
        "one response: a model has one; for several make a long frame, with their "
        "names as a factor",
    ),
    **dict.fromkeys(("mean", "sd", "median"), "{x}.{name}(), a method of the column"),
    **dict.fromkeys(
        ("ns", "rcs", "s", "te", "ti"),
        "cr({x}, df=4, constraints='center'), a natural spline, or bs({x}, df=5)",
    ),
    "relevel": "C({x}, Treatment('the reference'))",
    "ifelse": "np.where({all}), after import numpy as np",
    "cut": "C(bin), after data['bin'] = pandas.cut(data['{x}'], 3)",
    "offset": "nothing, and pass offset= to mixedlm, or subtract it from the response, "
    "as in I(y - {x}) ~ ...",
    "interaction": "the names with : between them, as in a:b",
    **dict.fromkeys(
        ("re", "random", "ranef"), "(1 | g) for random intercepts of g, in mixedlm"
    ),
    **dict.fromkeys(
        ("ar1", "corAR1", "us", "cs"), "nothing, and pass residual= to mixedlm"
    ),
}
_NAMES = {
    "EntityEffects": "nothing, and pass entity= and effects='entity' to fixed_effects",
    "TimeEffects": "nothing, and pass effects='time' to fixed_effects, or 'twoways'",
    "FixedEffects": "nothing, and pass entity= and effects='entity' to fixed_effects",
    "contr": "Sum, Treatment, Helmert or Poly, as in C(a, Sum)",
    "np": "import numpy as np above the call, or pass eval_env={'np': numpy}",
    "pd": "import pandas as pd above the call, or pass eval_env={'pd': pandas}",
}
# What a formula that the engine cannot read may have meant.
_PATTERNS = (
    (r"\bas\.(factor|ordered|character)\(", "C(x) for as.factor(x)"),
    (r"\bas\.\w+\(", "x for as.numeric(x), after pandas.to_numeric(data['x'])"),
    (r"\bib?\w*\.\w", "C(t) for i.t, C(t, Treatment(2)) for ib2.t"),
    (r"#", "a:b for a#b, a*b for a##b, C(t) for i.t and x for c.x"),
    (r"%in%", "b:a for a %in% b"),
    (r"\bC\([^()]*\b(ref|reference|base)\s*=", "C(x, Treatment('the reference'))"),
    (r"\^", "** for powers, as in I(x**2) or (a + b)**2"),
    (r"(^|[\s~+])\.($|\s)", "the names of the columns, for a dot"),
)


def unknown_name(name: str, formula: str, available: Iterable[Any]) -> str:
    """Say that a name of a formula means nothing, and what it may have meant."""
    formula = formula.removeprefix("0 + ")  # as a response is written
    return (
        f"{name!r} in the formula {formula!r} is neither a column of the data nor a "
        f"variable.{_spelled_here(name, formula) or near_matches(name, available)}"
    )


def _spelled_here(name: str, formula: str) -> str:
    """A sentence that says what to write for an unknown name; may be empty."""
    prefix = name.split(".")[0]
    dotted = re.search(rf"(?<![\w.]){re.escape(prefix)}\.(\w+)", formula)
    stata = re.fullmatch(r"(L|F|D|lag|lead|diff)(\d*)", prefix)
    first, everything = _arguments(prefix, formula)
    found = ""
    if stata and (dotted or first):
        column = dotted[1] if dotted and not first else first
        steps = stata[2] or "".join(re.findall(r",\s*(\d+)$", everything)) or "1"
        change = _SHIFTED[stata[1]].replace("1", steps)
        found = (
            f"a column that is made before: data['{column}_{stata[1]}'] = "
            f"data.groupby('id')['{column}']{change}, of rows in the order of time"
        )
    elif dotted and re.fullmatch(r"ib?(\d*|n)", prefix):
        base = prefix.strip("ibn")
        found = f"C({dotted[1]}, Treatment({base}))" if base else f"C({dotted[1]})"
    elif dotted and prefix == "c":
        found = dotted[1]
    elif first and prefix in _CALLS:
        found = _CALLS[prefix].format(x=first, all=everything, name=prefix)
    elif prefix in _NAMES:
        found = _NAMES[prefix]
    return f" Here write {found}." if found else ""


def spelled_in_patterns(formula: str) -> str:
    """A sentence on signs of other programs in a formula; may be empty."""
    if "`" in formula:
        return " Here write Q('a name') for `a name`."
    text = re.sub(QUOTED, "", formula)
    found = next((here for sign, here in _PATTERNS if re.search(sign, text)), "")
    return f" Here write {found}." if found else ""


def why_not_evaluated(said: object, formula: str) -> str:
    """What an engine says of a formula that fails, and what to write instead."""
    why = str(said).splitlines()[0].rstrip(".")
    if "complex" in why:
        why = (
            "it has complex values; of a complex column z write np.real(z), "
            "np.imag(z), np.abs(z) or np.angle(z)"
        )
    hint = spelled_in_patterns(formula)
    return f"The formula {formula!r} cannot be evaluated: {why}.{hint}"


def _arguments(name: str, formula: str) -> tuple[str, str]:
    """The first argument of a call, and all of them as they are written."""
    match = re.search(rf"(?<![\w.]){re.escape(name)}\(", formula)
    if match is None:
        return "", ""
    depth, first = 1, None
    for k in range(match.end(), len(formula)):
        depth += (formula[k] in "([{") - (formula[k] in ")]}")
        if formula[k] == "," and depth == 1 and first is None:
            first = formula[match.end() : k]
        if depth == 0:
            everything = formula[match.end() : k]
            return (first or everything).strip(), everything.strip()
    return "", ""


@dataclass(frozen=True)
class EmptyCells:
    """
    Columns of a formula that were dropped, and what they are in the rows of the fit.

    Attributes
    ----------
    all_names : list of str
        Names of all columns of the formula.
    kept, dropped : ndarray of int
        Positions among all columns of the formula.
    weights : ndarray, shape (number kept, number dropped)
        In the fit, dropped columns are these combinations of the others.
    """

    all_names: list[str]
    kept: IntArray
    dropped: IntArray
    weights: FloatArray

    @property
    def names(self) -> list[str]:
        """Names of the columns dropped."""
        return [self.all_names[j] for j in self.dropped]

    def determined(self, matrix: FloatArray) -> BoolArray:
        """Rows of all columns, shape (n, p), that the coefficients kept predict."""
        kept, dropped = matrix[:, self.kept], matrix[:, self.dropped]
        scale = np.abs(kept) @ np.abs(self.weights) + np.abs(dropped)
        gap = np.abs(dropped - kept @ self.weights)
        return np.asarray((gap <= 1e-7 * scale).all(axis=1))


class FixedPart(Protocol):
    """The fixed part of a smooth."""

    @property
    def fixed_names(self) -> list[str]:
        """Names of its columns."""

    @property
    def variables(self) -> list[str]:
        """Columns of the data that it reads."""

    def fixed(self, table: pd.DataFrame) -> FloatArray:
        """Its columns for rows."""


def plain_columns(
    use: FormulaUse, frame: pd.DataFrame
) -> tuple[list[str], np.ndarray] | None:
    """Names and matrix of a sum of numeric columns, without the engine."""
    names = plain_terms(use.formula)
    if names is None or not names or "Intercept" in frame.columns:
        return None
    columns = [name for name in names if name in frame.columns]
    if len(columns) < len(names) - (names[0] == "Intercept"):
        return None
    if any(getattr(frame[name].dtype, "kind", "O") not in "iuf" for name in columns):
        return None
    matrix = np.empty((len(frame), len(names)))
    for j, name in enumerate(names):
        matrix[:, j] = frame[name] if name in frame.columns else 1.0
    return names, matrix
