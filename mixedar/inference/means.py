"""
Marginal means and slopes: grids of a formula's variables, and rows of the design.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.formula import FormulaSpec
from mixedar.data.formula.terms import levels_of_formula, terms_of_formula
from mixedar.data.rows import recode
from mixedar.exceptions import (
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_choice,
)
from mixedar.fit import Fit
from mixedar.hypotheses.df import DFMethod, resolve_df
from mixedar.inference.contrasts import (
    Combined,
    MarginalMeans,
    MarginalSlopes,
    without_rounding,
)
from mixedar.inference.sandwich import sandwich

# A numeric variable with more distinct values wants at=.
_MOST_VALUES = 10
_LARGEST_GRID = 100_000


def marginal_means(
    fit: Fit,
    variables: str | Sequence[str],
    *,
    at: Mapping[str, Any] | None = None,
    by: str | Sequence[str] | None = None,
    df: str | float | DFMethod | None = None,
    cov_type: str | None = None,
    weights: str = "equal",
) -> MarginalMeans:
    """
    Estimated marginal means of a fit from a formula.

    Factors that are not asked for are averaged over, numeric variables are held
    at their means.

    Parameters
    ----------
    fit : Fit
    variables : str or sequence of str
        Columns of the data, such as ``"treatment"``.
    at : mapping, optional
        A value or several for each column named: of a column asked for, the
        values of the grid; of another, what to hold it at or average over.
    by : str or sequence of str, optional
        Further columns of the grid; pairs are compared within their values.
    df : str, float or DFMethod, optional
        Degrees of freedom; those of the results by default.
    cov_type : str, optional
        Robust covariance such as ``"CR2"``, with its own degrees of freedom.
    weights : {"equal", "proportional"}
        Average over the other factors' levels alike, or by their frequency
        in the data.

    Returns
    -------
    MarginalMeans

    Raises
    ------
    NotComputedError
        If the model was not built from a formula.
    UnknownColumnError
        If a column is not in the formula.
    UnsupportedError
        For a numeric column of many values without `at`, or options that are
        not known.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> fit = model.fit()
    >>> means = fit.marginal_means("sex", at={"age": 14})
    >>> means.to_frame()["mean"].round(1).tolist()
    [24.1, 27.3]
    """
    asked = Asked.of(variables, by, at, weights)
    tested = with_tests(fit, df, cov_type)
    grid = grid_of([fit], asked, asked.columns)
    matrix = grid.average(_design(fit, grid.rows))
    return means_on(grid, [fit], matrix, Combined.of(tested), asked.by)


def marginal_slopes(
    fit: Fit,
    x: str,
    by: str | Sequence[str] | None = None,
    *,
    at: Mapping[str, Any] | None = None,
    df: str | float | DFMethod | None = None,
    cov_type: str | None = None,
    weights: str = "equal",
) -> MarginalSlopes:
    """
    Slopes of the population mean along a numeric variable.

    Factors that are not asked for are averaged over, numeric variables held at their
    means, `x` itself too.  These are the trends of R's ``emtrends``.

    Parameters
    ----------
    fit : Fit
    x : str
        A numeric column of the data, such as ``"time"``.
    by : str or sequence of str, optional
        Columns whose values have a slope each; `x` among them for slopes at several
        of its values, of a curve.
    at : mapping, optional
        A value or several for each column named, as in :meth:`marginal_means`.
    df : str, float or DFMethod, optional
        Degrees of freedom; those of the results by default.
    cov_type : str, optional
        Robust covariance such as ``"CR2"``, with its own degrees of freedom.
    weights : {"equal", "proportional"}
        As in :meth:`marginal_means`.

    Returns
    -------
    MarginalSlopes
        ``to_frame()``; ``pairwise()`` and ``contrast()`` compare slopes.

    Raises
    ------
    NotComputedError
        If the model was not built from a formula, or the mean has no slope there.
    UnknownColumnError
        If a column is not in the formula.
    UnsupportedError
        If `x` is not numeric, and as :meth:`marginal_means`.

    Notes
    -----
    Columns of the design are differentiated by differences of fourth order with a
    step of a thousandth of the range of `x`: exact for polynomials up to the fourth
    degree.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> model = mar.mixedlm(
    ...     "distance ~ age * sex", teeth, groups="subject", time="occ"
    ... )
    >>> slopes = model.fit().marginal_slopes("age", by="sex", df="satterthwaite")
    >>> slopes.to_frame()["slope"].round(2).tolist()
    [0.48, 0.79]
    """
    asked = Asked.of([] if by is None else by, None, at, weights)
    tested = with_tests(fit, df, cov_type)
    grid = grid_of([fit], asked, asked.columns, slope=x)
    matrix = grid.average(_slopes(fit, grid, x))
    return slopes_on(grid, [fit], matrix, Combined.of(tested), x)


class Asked(NamedTuple):
    """
    What a user asks for.

    Attributes
    ----------
    variables, by : list of str
        Columns of the grid, and those within whose values pairs are formed.
    at : dict
        Values by column.
    weights : str
    """

    variables: list[str]
    by: list[str]
    at: dict[str, Any]
    weights: str

    @classmethod
    def of(cls, variables: Any, by: Any, at: Any, weights: str) -> Asked:
        """Checked."""
        check_choice("weights", weights, ("equal", "proportional"))
        if not isinstance(variables, Iterable) or not isinstance(at or {}, Mapping):
            raise UnsupportedError(
                f"variables={variables!r}, at={at!r}: name columns, such as "
                "'treatment', and values by column, such as at={'time': [0, 1]}"
            )
        names = [variables] if isinstance(variables, str) else list(variables)
        within = [] if by is None else [by] if isinstance(by, str) else list(by)
        return cls(names, within, dict(at or {}), weights)

    @property
    def columns(self) -> list[str]:
        """All columns of the grid."""
        return list(dict.fromkeys([*self.variables, *self.by]))


def with_tests(
    fit: Fit, df: str | float | DFMethod | None, cov_type: str | None
) -> Fit:
    """The fit with the degrees of freedom, or the robust covariance, asked for."""
    if cov_type is not None and df is not None:
        raise UnsupportedError(
            f"cov_type={cov_type!r} has degrees of freedom of its own; leave df= out"
        )
    if cov_type is not None:
        return fit.with_tests(resolve_df("satterthwaite"), sandwich(fit, cov_type))
    return fit if df is None else fit.with_tests(resolve_df(df), fit.robust)


@dataclass(frozen=True)
class Grid:
    """
    Combinations of values of a formula's variables.

    Attributes
    ----------
    focus : DataFrame, shape (k, number of columns)
        One row a mean.
    rows : DataFrame, shape (k * inner, number of variables)
        All combinations, those of one mean below one another.
    share : ndarray, shape (inner,)
        Their weights in the mean.
    rest : dict
        Values at which the other variables are held or averaged over.
    chosen : set of str
        Variables that the user holds at one value.
    span : tuple of float
        Range of the variable along which slopes are asked for.
    """

    focus: pd.DataFrame
    rows: pd.DataFrame
    share: FloatArray
    rest: dict[str, Any]
    chosen: set[str]
    span: tuple[float, float] = (0.0, 0.0)

    def average(self, design: FloatArray) -> FloatArray:
        """Averages of the rows of each mean, shape (k, p)."""
        blocks = design.reshape(-1, len(self.share), design.shape[1])
        return np.asarray(np.einsum("kip,i->kp", blocks, self.share))


def grid_of(
    fits: Sequence[Fit], asked: Asked, columns: Sequence[str], slope: str | None = None
) -> Grid:
    """The grid of the first fit's formula, over the rows of all fits."""
    spec, data = _formula(fits, "slopes" if slope else "means", asked.weights)
    for name in [*columns, *asked.at, *([slope] if slope else [])]:
        if name not in spec.variables:
            raise UnknownColumnError(
                f"{name!r} is not in the fixed effects {spec.formula!r}; there are "
                f"{', '.join(repr(known) for known in spec.variables)}"
            )
    if not (columns or slope):
        raise UnsupportedError("name at least one variable")
    span = 0.0, 0.0
    if slope:
        span = _span(spec, data, slope)
    values = {
        name: _values(spec, data, name, asked.at, name in columns)
        for name in spec.variables
    }
    others = [name for name in spec.variables if name not in columns]
    size = int(np.prod([len(v) for v in values.values()], dtype=float))
    if size > _LARGEST_GRID:
        raise UnsupportedError(
            f"the grid has {size} rows; hold some variables with at="
        )
    order = [*columns, *others]
    rows = pd.DataFrame(list(product(*(values[name] for name in order))))
    rows.columns = pd.Index(order)
    inner = size // max(int(np.prod([len(values[n]) for n in columns])), 1)
    share = np.full(inner, 1.0 / inner)
    if asked.weights == "proportional":
        share = _frequencies(data, rows.iloc[:inner], others, values)
    return Grid(
        focus=rows[list(columns)].iloc[::inner].reset_index(drop=True),
        rows=rows,
        share=share,
        rest={name: values[name] for name in others},
        chosen={name for name in asked.at if len(values[name]) == 1},
        span=span,
    )


def means_on(
    grid: Grid,
    fits: Sequence[Fit],
    matrix: FloatArray,
    combined: Combined,
    by: list[str],
) -> MarginalMeans:
    """Means whose rows of the design are those of `matrix`."""
    spec = fits[0].formula_spec
    assert spec is not None
    matrix = _estimable(spec, matrix)
    notes = _notes(fits[0], grid, set(map(str, grid.focus)), "means")
    return MarginalMeans(grid.focus, matrix, by, grid.rest, combined, notes)


def slopes_on(
    grid: Grid, fits: Sequence[Fit], matrix: FloatArray, combined: Combined, x: str
) -> MarginalSlopes:
    """Slopes along `x` whose rows of the design are those of `matrix`."""
    spec = fits[0].formula_spec
    assert spec is not None
    matrix = _estimable(spec, matrix)
    notes = _notes(fits[0], grid, {x}, "slopes") + _place_of_slope(fits[0], grid, x)
    focus = grid.focus if len(grid.focus.columns) else pd.DataFrame({"x": [x]})
    return MarginalSlopes(focus, matrix, [], grid.rest, combined, notes)


def common_matrix(fits: Sequence[Fit], grid: Grid, slope: str | None) -> FloatArray:
    """Rows of the design that all fits share, averaged."""
    found = []
    for fit in fits:
        fit.population.check_no_smooths("means of pooled fits")
        design = _slopes(fit, grid, slope) if slope else _design(fit, grid.rows)
        found.append(grid.average(design))
    for other in found[1:]:
        if not np.allclose(other, found[0], rtol=1e-8, atol=1e-10, equal_nan=True):
            raise NotComputedError(
                "the columns of the design depend on the data (a centred or scaled "
                "variable, knots at quantiles), and differ between the fits: transform "
                "the variables alike in all data sets, before they are fitted"
            )
    return found[0]


def _formula(
    fits: Sequence[Fit], what: str, weights: str
) -> tuple[FormulaSpec, pd.DataFrame]:
    """The formula of the first fit, and the rows of all."""
    frames = []
    for fit in fits:
        if fit.formula_spec is None:
            raise NotComputedError(
                f"marginal {what} need a model from a formula; with arrays use t_test "
                "with the rows of your own grid"
            )
        if fit.encoder.has_offset:
            raise UnsupportedError(
                f"marginal {what} of a model with an offset depend on it: predict rows "
                "with the offset that is meant, get_prediction(newdata)"
            )
        data = fit.data
        frame = data.reference if weights == "equal" else data.frame
        assert frame is not None
        frames.append(frame)
    spec = fits[0].formula_spec
    assert spec is not None
    return spec, frames[0] if len(frames) == 1 else pd.concat(frames)


def _span(spec: FormulaSpec, data: pd.DataFrame, x: str) -> tuple[float, float]:
    """The range of a numeric variable."""
    column = pd.Series(data[x]).dropna()
    if x in levels_of_formula(spec) or not (
        pd.api.types.is_numeric_dtype(column.dtype)
        and not pd.api.types.is_bool_dtype(column.dtype)
    ):
        raise UnsupportedError(
            f"{x!r} has levels, and no slope: compare them by marginal_means({x!r})"
        )
    return float(column.min()), float(column.max())


def _design(fit: Fit, rows: pd.DataFrame) -> FloatArray:
    """Columns of all coefficients that rows share, those of empty cells too."""
    spec = fit.formula_spec
    assert spec is not None
    design = np.hstack(
        [
            spec.all_columns(rows),
            spec.smooth_columns(rows),
            fit.population.columns(rows),
        ]
    )
    if not np.isfinite(design).all():
        raise NotComputedError(
            "the design at the grid is not finite: choose other values with at="
        )
    return np.asarray(design, dtype=np.float64)


# Differences of fourth order: in the middle, and at the ends of the range.
_STENCILS = {
    0: ((-2, -1, 1, 2), (1.0, -8.0, 8.0, -1.0)),
    1: ((0, 1, 2, 3, 4), (-25.0, 48.0, -36.0, 16.0, -3.0)),
    -1: ((0, -1, -2, -3, -4), (25.0, -48.0, 36.0, -16.0, 3.0)),
}


def _slopes(fit: Fit, grid: Grid, x: str) -> FloatArray:
    """Derivatives of the columns by `x`; columns as in :func:`_design`."""
    low, high = grid.span
    step = (high - low) / 1000.0
    if not step > 0.0:
        raise NotComputedError(f"{x!r} has one value: the mean has no slope along it")
    given = recode(grid.rows[x], np.dtype(float), x)
    here = given.to_numpy(np.float64, na_value=np.nan)
    # differences do not leave the range of the data, where curves may not exist
    side = np.where(here - 2 * step < low, 1, np.where(here + 2 * step > high, -1, 0))
    side[(here < low) | (here > high)] = 0
    out: FloatArray | None = None
    for kind in np.unique(side):
        chosen = side == kind
        rows = grid.rows[chosen]
        for move, weight in zip(*_STENCILS[int(kind)], strict=True):
            design = _design(fit, rows.assign(**{x: here[chosen] + move * step}))
            if out is None:
                out = np.zeros((len(here), design.shape[1]))
            out[chosen] += weight / (12.0 * step) * design
    assert out is not None
    # what does not change along x leaves rounding of differences
    size = np.abs(_design(fit, grid.rows)).max(axis=0, initial=0.0)
    return np.where(np.abs(out) < 1e-11 * size / step, 0.0, out)


def _estimable(spec: FormulaSpec, matrix: FloatArray) -> FloatArray:
    """Columns of coefficients that exist; NaN where others are needed."""
    if spec.empty_cells is not None:
        count = len(spec.all_names)
        unknown = ~spec.empty_cells.determined(matrix[:, :count])
        kept = matrix[:, :count][:, spec.empty_cells.kept]
        matrix = np.hstack([kept, matrix[:, count:]])
        matrix[unknown] = np.nan
    return without_rounding(matrix)


def _notes(fit: Fit, grid: Grid, about: set[str], what: str) -> tuple[str, ...]:
    """What is averaged over, and interactions with what is not in the grid."""
    spec = fit.formula_spec
    assert spec is not None
    notes = []
    averaged = [name for name, values in grid.rest.items() if len(values) > 1]
    if averaged:
        notes.append(f"Averaged over the levels of: {', '.join(averaged)}.")
    try:
        together = [set(term.variables) for term in terms_of_formula(spec)]
    except NotComputedError:
        together = []
    together += [set(part.smooth.variables) for part in fit.population.parts]
    involved = dict.fromkeys(
        name
        for names in together
        if names & about
        for name in grid.rest
        if name in names - about - grid.chosen
    )
    if involved:
        held = [name if name in averaged else _held(name, grid) for name in involved]
        notes.append(
            f"Involved in an interaction with {', '.join(held)}: {what} may be others "
            "at single values."
        )
    return tuple(notes)


def _place_of_slope(fit: Fit, grid: Grid, x: str) -> tuple[str, ...]:
    """That slopes are at the mean of `x`, if they change along it and nobody chose."""
    if x in grid.focus or x in grid.chosen or len(grid.rest[x]) > 1:
        return ()
    low, high = (
        grid.average(_slopes(fit, replace(grid, rows=grid.rows.assign(**{x: end})), x))
        for end in grid.span
    )
    if np.allclose(low, high, rtol=1e-6, atol=1e-8 * float(np.abs(low).max())):
        return ()
    return (f"Slopes change along {x}: here at its mean, {grid.rest[x][0]:.4g}.",)


def _held(name: str, grid: Grid) -> str:
    """A variable and the value at which it is held."""
    value = grid.rest[name][0]
    return f"{name} ({value:.4g})" if isinstance(value, float) else f"{name} ({value})"


def _values(
    spec: FormulaSpec,
    data: pd.DataFrame,
    name: str,
    held: Mapping[str, Any],
    focus: bool,
) -> list[Any]:
    """Values of a variable in the grid."""
    if name in held:
        given = held[name]
        if isinstance(given, str) or not np.iterable(given):
            given = [given]
        given = list(given)
        if not given:
            raise UnsupportedError(f"at: no value for {name!r}")
        return given
    levels = levels_of_formula(spec).get(name)
    if levels is not None:
        return list(levels)
    column = pd.Series(data[name]).dropna()
    if getattr(column.dtype, "kind", "O") in "bO":
        return sorted(column.unique().tolist())
    if not focus:
        return [column.mean()]
    distinct = sorted(column.unique().tolist())
    if len(distinct) > _MOST_VALUES:
        raise UnsupportedError(
            f"{name!r} has {len(distinct)} values: say which with "
            f"at={{{name!r}: [...]}}"
        )
    return distinct


def _frequencies(
    data: pd.DataFrame,
    combined: pd.DataFrame,
    others: Sequence[str],
    values: Mapping[str, list[Any]],
) -> FloatArray:
    """Share of each combination of the averaged factors in the data."""
    factors = [name for name in others if len(values[name]) > 1]
    if not factors:
        return np.full(len(combined), 1.0 / len(combined))
    counts = data.groupby(factors, observed=True).size()
    keys = [tuple(row) for row in combined[factors].itertuples(index=False)]
    found = np.array(
        [counts.get(key if len(factors) > 1 else key[0], 0) for key in keys], float
    )
    if not found.sum() > 0.0:
        raise NotComputedError(
            "weights='proportional': the grid's values do not occur in the data"
        )
    return found / found.sum()
