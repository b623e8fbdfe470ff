"""
Smooths as curves: values, standard errors, pointwise and simultaneous intervals.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray, IntArray, Seed
from mixedar.data.rows import as_frame, table_column
from mixedar.exceptions import UnknownColumnError, UnsupportedError, check_alpha, shown
from mixedar.fit import Fit
from mixedar.inference.arguments import check_count, generator, understands
from mixedar.inference.smooths import FittedSmooth, SharedCoefficients, fitted_smooths
from mixedar.numeric.linalg import product, spectral_root
from mixedar.prediction.level_smooths import level_coefficients
from mixedar.summary import ResultFrame

if TYPE_CHECKING:
    from typing_extensions import Self

# Points along one covariate, and along each of two.
_GRID, _GRID_OF_TWO = 100, 30
# Curves drawn for simultaneous intervals; and of a grid, for each of many levels, only
# every so many points are looked at.
_DRAWS, _EACH = 10_000, 4
# Step of a difference quotient, as a share of the covariate's range.
_STEP = 1e-4
# Levels that a message lists.
_LISTED = 10


@dataclass(frozen=True, eq=False)
class Curve:
    """
    A smooth, or that of one level of a factor.

    Attributes
    ----------
    label : str
    one : FittedSmooth
    number : int
        Of the level of a factor in ``by=`` or of ``bs="fs"``; -1 without one.
    params : ndarray, shape (k,)
        Fixed and random coefficients.
    cov : ndarray, shape (k, k)
    """

    label: str
    one: FittedSmooth
    number: int
    params: FloatArray
    cov: FloatArray

    @cached_property
    def root(self) -> FloatArray:
        """``R`` with ``R R' = cov``, shape (k, k)."""
        return spectral_root(*np.linalg.eigh(self.cov))

    @property
    def factor(self) -> str:
        """Column of the factor, or empty."""
        call = self.one.smooth.call
        return "" if self.one.smooth.levels is None else call.factor or call.by

    @property
    def level(self) -> object:
        """The level."""
        levels = self.one.smooth.levels
        return None if levels is None else levels.values.iloc[self.number]

    @property
    def covariates(self) -> list[str]:
        """Columns of the data that the smooth is a function of."""
        smooth, read = self.one.smooth, list[str]()
        for expression in smooth.call.covariates:
            nodes = ast.walk(ast.parse(expression, mode="eval"))
            read += [node.id for node in nodes if isinstance(node, ast.Name)]
        names = [name for name in smooth.spec.variables if name != smooth.call.by]
        order = {name: k for k, name in enumerate(reversed(read))}
        return sorted(names, key=lambda name: -order.get(name, -1))

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The same rows, of the curve's own level, or with a ``by`` of one."""
        table, by = table.copy(deep=False), self.one.smooth.call.by
        if self.factor:
            table[self.factor] = pd.Series([self.level] * len(table), table.index)
        elif by and by not in table:
            table[by] = 1.0
        return table

    def design(self, table: pd.DataFrame) -> FloatArray:
        """Columns of all coefficients, shape (m, k)."""
        smooth = self.one.smooth
        table = self.rows(table)
        smooth.spec.complete_matrix(table)
        parts = [smooth.random(table, k) for k in range(len(self.one.variances))]
        return np.hstack([smooth.fixed(table), *parts])

    def slopes(self, table: pd.DataFrame, along: str, step: float) -> FloatArray:
        """Their derivatives by a column of the data: exact within a cubic piece."""
        here = table_column(table, along).to_numpy(dtype=np.float64)
        near, far = (
            self.design(table.assign(**{along: here + k * step}))
            - self.design(table.assign(**{along: here - k * step}))
            for k in (1.0, 2.0)
        )
        return np.asarray((8.0 * near - far) / (12.0 * step))


def curves(fit: Fit, label: str | None = None) -> Iterator[Curve]:
    """
    The curves of a smooth, one for each level of its factor; of all by default.

    Parameters
    ----------
    fit : Fit
    label : str, optional
        As in ``fit.smooths``; without the level, or without ``by``, for all levels.

    Yields
    ------
    Curve

    Raises
    ------
    UnknownColumnError
        If there is no such smooth.
    """
    smooths = fitted_smooths(fit)
    chosen = smooths if label is None else _chosen(smooths, label)
    joint = SharedCoefficients(fit)
    for one in chosen:
        smooth, levels = one.smooth, one.smooth.levels
        if not smooth.call.factor:
            every = joint.columns(one)
            cov = joint.cov[np.ix_(every, every)]
            yield Curve(smooth.label, one, smooth.level, joint.params[every], cov)
            continue
        assert levels is not None
        for k, params, cov in zip(*level_coefficients(fit, one), strict=True):
            name = f"{smooth.label}:{levels.names[k]}"
            yield Curve(name, one, int(k), params, cov)


def _chosen(smooths: Sequence[FittedSmooth], label: str) -> list[FittedSmooth]:
    """Smooths of a label."""
    names = [
        (one.smooth.label, one.smooth.call.label, one.smooth.call.label.split("):")[0])
        for one in smooths
    ]
    wanted = str(label).replace(" ", "")
    for place in range(3):
        same = [
            one
            for one, own in zip(smooths, names, strict=True)
            if own[place].replace(" ", "").removesuffix(")") == wanted.removesuffix(")")
        ]
        if same:
            return same
    if not smooths:
        raise UnsupportedError(
            "the model has no smooths; write one in the formula, as in s(time)"
        )
    listed = ", ".join(repr(one.smooth.label) for one in smooths[:_LISTED])
    raise UnknownColumnError(f"there is no smooth {shown(label)}; there are {listed}")


@understands(seed="rng", n_draws="n_sim")
def smooth(
    fit: Fit,
    label: str,
    at: object = None,
    *,
    n: int | None = None,
    derivative: bool | str = False,
    alpha: float = 0.05,
    rng: Seed = 0,
    n_sim: int = _DRAWS,
) -> pd.DataFrame:
    """
    A smooth with its standard errors and intervals.

    Parameters
    ----------
    fit : Fit
    label : str
        As in ``fit.smooths``: ``"s(time)"``, ``"s(time):armb"`` of one level; without
        the level, ``"s(time)"`` or ``"s(time):arm"``, for the curves of all levels.
    at : DataFrame, mapping or array_like, optional
        Where: values of the covariates, or an array of one.  By default a grid over
        the range of the data; of a tensor product, a grid of both.  If the column of
        the factor is there, each level has its own rows only.
    n : int, optional
        Points of the grid along a covariate: 100, of two covariates 30 each.
    derivative : bool or str
        Whether to add the derivative with its standard error; of two covariates the
        name of one.
    alpha : float
        1 - coverage.
    rng : int or Generator
        Of the draws that simultaneous intervals need.
    n_sim : int
        How many there are.

    Returns
    -------
    DataFrame
        Covariates, level, ``fit``, ``se``, ``lower`` and ``upper`` for each point by
        itself, ``simultaneous_lower`` and ``simultaneous_upper`` for the whole curve
        over the range of the data; on request ``derivative``, ``derivative_se``,
        ``derivative_lower`` and ``derivative_upper``.  `attrs` has ``critical``, the
        multiples of the standard error of simultaneous intervals by curve.

    Raises
    ------
    UnknownColumnError
        If there is no such smooth, or a covariate is missing.
    UnsupportedError
        For options that make no sense.
    NotComputedError
        If the data were removed from the fit.

    Notes
    -----
    Values are those of mgcv's ``predict(type = "terms", se.fit = TRUE)``: the fixed
    part of the smooth is in them, the constant is not, and standard errors are
    Bayesian, given the variance parameters.  Pointwise intervals have their coverage on
    average along the curve (Nychka, 1988; Marra and Wood, 2012).  A smooth with a
    numeric ``by`` is what the number is multiplied by, unless `at` has that column.

    The critical value of simultaneous intervals is a quantile of the largest
    standardized deviation of curves drawn from the distribution of the coefficients
    (Ruppert, Wand and Carroll, 2003, section 6.5).

    References
    ----------
    Marra, G. and Wood, S. N. (2012), Coverage properties of confidence intervals for
    generalized additive model components, Scandinavian Journal of Statistics 39,
    53-74.

    Nychka, D. (1988), Bayesian confidence intervals for smoothing splines, Journal of
    the American Statistical Association 83, 1134-1143.

    Ruppert, D., Wand, M. P. and Carroll, R. J. (2003), Semiparametric Regression,
    Cambridge University Press.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_bodyweight
    >>> rats = load_bodyweight()
    >>> fit = mar.mixedlm("weight ~ s(time) + (1 + time | rat)", rats).fit()
    >>> fit.smooth("s(time)", at=[8, 36]).round(1)["fit"].tolist()
    [-15.5, 1.6]
    """
    check_alpha(alpha)
    n_sim = check_count(n_sim, "n_sim")
    options = Options(at, n, derivative, alpha, generator(rng), n_sim)
    return _evaluated(fit, curves(fit, label), options)


@dataclass(frozen=True)
class Options:
    """Of :func:`smooth`; without draws there are no simultaneous intervals."""

    at: object
    n: int | None
    derivative: bool | str
    alpha: float
    rng: np.random.Generator
    n_sim: int


@dataclass(frozen=True, eq=False)
class CurveRows:
    """
    Rows of a curve.

    Attributes
    ----------
    table : DataFrame
    design : ndarray, shape (m, k)
        Columns of the coefficients.
    slopes : ndarray, shape (m, k), or None
        Their derivatives, if they are asked for.
    """

    table: pd.DataFrame
    design: FloatArray
    slopes: FloatArray | None

    @classmethod
    def of(cls, curve: Curve, table: pd.DataFrame, along: str, step: float) -> Self:
        """The columns of some rows."""
        slopes = curve.slopes(table, along, step) if along else None
        return cls(table, curve.design(table), slopes)


def _evaluated(fit: Fit, found: Iterable[Curve], options: Options) -> pd.DataFrame:
    """Curves with their intervals, one below the other."""
    parts: list[tuple[Curve, CurveRows, dict[str, FloatArray]]] = []
    critical, normals = dict[str, float](), dict[int, FloatArray]()
    # the curves of all levels of a factor have the same columns
    shared: dict[int, tuple[CurveRows, str, float, IntArray | None]] = {}
    for curve in found:
        key, at = id(curve.one), options.at
        if key not in shared:
            grid = grid_of(fit, curve, options.n)
            along = _along(curve, options.derivative)
            step = _STEP * float(np.ptp(grid[along])) if along else 0.0
            whole = CurveRows.of(curve, grid, along, step)
            codes = None if at is None else _codes(curve, _given(curve, at))
            shared[key] = whole, along, step, codes
        whole, along, step, codes = shared[key]
        rows = whole
        if at is not None:
            table = _given(curve, at)
            if codes is not None:
                table = table[codes == curve.number]
            if codes is not None and not len(table):
                continue
            rows = CurveRows.of(curve, table, along, step)
        size = float(stats.norm.isf(options.alpha / 2.0))
        if options.n_sim:
            k = len(curve.params)
            if k not in normals:
                normals[k] = options.rng.standard_normal((options.n_sim, k))
            each = _EACH if curve.one.smooth.call.factor else 1
            size = _critical(curve, whole.design[::each], normals[k], options.alpha)
            critical[curve.label] = size
        parts.append((curve, rows, _columns(curve, rows, options.alpha, size)))
    if not parts:
        raise UnsupportedError("at= has no rows of a level that has a curve")
    out = pd.concat([rows.table[curve.covariates] for curve, rows, _ in parts])
    first, levels = parts[0][0], parts[0][0].one.smooth.levels
    if levels is not None:
        counts = [len(rows.table) for _, rows, _ in parts]
        numbers = np.repeat([curve.number for curve, _, _ in parts], counts)
        out[first.factor] = levels.values.iloc[numbers].array
    for name in parts[0][2]:
        out[name] = np.concatenate([columns[name] for _, _, columns in parts])
    if options.at is None or len(parts) > 1:
        out = out.reset_index(drop=True)
    out.attrs = {"critical": critical}
    return ResultFrame.of(out)


def _codes(curve: Curve, table: pd.DataFrame) -> IntArray | None:
    """Levels of given rows; None if they have none."""
    levels = curve.one.smooth.levels
    if levels is None or curve.factor not in table:
        return None
    return levels.numbers(table_column(table, curve.factor))


def _along(curve: Curve, derivative: bool | str) -> str:
    """The covariate of the derivative, or empty."""
    names = curve.covariates
    if derivative is False:
        return ""
    along = names[0] if derivative is True else derivative
    if along not in names or (derivative is True and len(names) > 1):
        raise UnsupportedError(
            f"derivative={derivative!r}: {curve.label} is a function of "
            f"{' and '.join(names)}; name one of them"
        )
    return along


def grid_of(fit: Fit, curve: Curve, n: int | None = None) -> pd.DataFrame:
    """Evenly spaced values of the covariates over the range of the data."""
    names = curve.covariates
    default = _GRID if len(names) == 1 else _GRID_OF_TWO
    count = default if n is None else check_count(n, "n")
    frame, axes = fit.data.frame, []
    assert frame is not None  # of every formula
    for name in names:
        values = table_column(frame, name).to_numpy(dtype=np.float64)
        values = values[np.isfinite(values)]
        axes.append(np.linspace(values.min(), values.max(), count))
    grid = np.meshgrid(*axes, indexing="ij")
    return pd.DataFrame(
        {name: own.ravel() for name, own in zip(names, grid, strict=True)}
    )


def _given(curve: Curve, at: object) -> pd.DataFrame:
    """The rows that a user asks for."""
    names = curve.covariates
    if isinstance(at, (pd.DataFrame, dict)):
        table = as_frame(at)
        missing = [name for name in names if name not in table]
        if missing:
            raise UnknownColumnError(
                f"at= has no column {missing[0]!r}, which {curve.label} is a function "
                "of"
            )
        return table
    if len(names) > 1:
        raise UnsupportedError(
            f"{curve.label} is a function of {' and '.join(names)}: pass at= as a "
            "DataFrame with these columns"
        )
    values = np.atleast_1d(np.asarray(at))
    if values.ndim > 1:
        raise UnsupportedError(f"at= has the shape {values.shape}; pass one dimension")
    return pd.DataFrame({names[0]: values})


def _critical(
    curve: Curve, design: FloatArray, normals: FloatArray, alpha: float
) -> float:
    """Quantile of the largest standardized deviation over a grid."""
    half = product(design, curve.root)
    size, pointwise = np.sqrt((half**2).sum(axis=1)), float(stats.norm.isf(alpha / 2.0))
    half = half[size > 0.0] / size[size > 0.0, None]
    if not len(half):
        return pointwise
    most = np.abs(normals @ half.T).max(axis=1)
    return max(float(np.quantile(most, 1.0 - alpha)), pointwise)


def _columns(
    curve: Curve, rows: CurveRows, alpha: float, critical: float
) -> dict[str, FloatArray]:
    """Columns of the result for one curve."""
    z = float(stats.norm.isf(alpha / 2.0))
    value = rows.design @ curve.params
    se = np.sqrt((product(rows.design, curve.root) ** 2).sum(axis=1))
    out = {"fit": value, "se": se, "lower": value - z * se, "upper": value + z * se}
    out["simultaneous_lower"] = value - critical * se
    out["simultaneous_upper"] = value + critical * se
    if rows.slopes is not None:
        value = rows.slopes @ curve.params
        se = np.sqrt((product(rows.slopes, curve.root) ** 2).sum(axis=1))
        out |= {"derivative": value, "derivative_se": se}
        out["derivative_lower"] = value - z * se
        out["derivative_upper"] = value + z * se
    return out


@dataclass(frozen=True, eq=False)
class SmoothPicture:
    """
    What a panel shows.

    Attributes
    ----------
    title : str
    frame : DataFrame
        Of ``fit.smooth``: a curve, a surface, or a curve for each level.
    covariates : list of str
    factor : str
        Column of the levels that are drawn together, or empty.
    rug : ndarray, shape (n, covariates)
        Where the data are.
    """

    title: str
    frame: pd.DataFrame
    covariates: list[str]
    factor: str
    rug: FloatArray


def smooth_pictures(
    fit: Fit,
    labels: str | Iterable[str] | None,
    *,
    n: int | None = None,
    alpha: float = 0.05,
    rng: Seed = 0,
) -> list[SmoothPicture]:
    """What to draw of some smooths, or of all; see :func:`smooth`."""
    check_alpha(alpha)
    smooths, draws = fitted_smooths(fit), generator(rng)
    wanted = [labels] if isinstance(labels, str) else labels
    if wanted is None:
        wanted = [one.smooth.label for one in smooths] or ["s()"]
    chosen = [one for label in wanted for one in _chosen(smooths, label)]
    frame, out = fit.data.frame, []
    assert frame is not None  # of every formula
    for one in chosen:
        found = list(curves(fit, one.smooth.label))
        curve = found[0]
        names = curve.covariates
        places = np.column_stack(
            [table_column(frame, name).to_numpy(dtype=np.float64) for name in names]
        )
        factor, codes = one.smooth.call.factor, _codes(curve, frame)
        if codes is not None and not factor:
            places = places[codes == curve.number]
        options = Options(None, n, False, alpha, draws, 0 if factor else _DRAWS)
        values = _evaluated(fit, found, options)
        out.append(SmoothPicture(one.smooth.label, values, names, factor, places))
    return out
