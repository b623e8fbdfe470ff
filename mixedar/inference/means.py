"""
Marginal means as a table, and their contrasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mixedar._types import FloatArray
from mixedar.data.formula import FormulaSpec
from mixedar.data.formula.terms import levels_of_formula
from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    NotComputedError,
    UnknownColumnError,
    UnsupportedError,
    check_alpha,
    check_choice,
)
from mixedar.fit import Fit
from mixedar.hypotheses.df import DFMethod, resolve_df, t_isf, t_sf
from mixedar.inference.sandwich import sandwich
from mixedar.inference.wald import population_tests


@dataclass(frozen=True)
class MarginalMeans:
    """
    Population means at a grid of values, averaged over the other factors.

    Attributes
    ----------
    grid : DataFrame, shape (k, number of variables)
        One row a mean.
    matrix : ndarray, shape (k, p)
        The means are ``matrix @ fe_params``; with smooths the columns of their
        coefficients follow.
    by : list of str
        Variables within whose values pairs are formed.
    at : dict
        Values at which the other variables are held or averaged over.
    fit : Fit
        With the degrees of freedom, and the robust covariance, of the tests.

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

    grid: pd.DataFrame
    matrix: FloatArray
    by: list[str]
    at: dict[str, Any]
    fit: Fit

    @property
    def df(self) -> str:
        """The method of degrees of freedom."""
        return self.fit.df_method.name

    @property
    def cov_type(self) -> str | None:
        """The kind of the robust covariance, None for the model's own."""
        return None if self.fit.robust is None else self.fit.robust.cov_type

    def _table(self, matrix: FloatArray, alpha: float, name: str) -> pd.DataFrame:
        """Estimates, errors, DF, tests and intervals of contrasts; NaN if unknown."""
        known = np.isfinite(matrix).all(axis=1)
        if not known.any():
            raise NotComputedError(
                "no such mean can be estimated: combinations of levels that it "
                "averages over have no rows; choose levels that have with at="
            )
        if not known.all():
            table = self._table(matrix[known], alpha, name)
            return table.set_axis(np.flatnonzero(known)).reindex(range(len(matrix)))
        test = population_tests(self.fit, matrix)
        effect, sd = np.ravel(test.effect), np.ravel(test.sd)
        df = np.inf if self.fit.df_method.name == "normal" else test.df_denom
        df = np.broadcast_to(np.asarray(df, float), effect.shape)
        t = effect / sd
        width = sd * t_isf(check_alpha(alpha) / 2.0, df)
        return pd.DataFrame(
            {
                name: effect,
                "se": sd,
                "df": df,
                "lower": effect - width,
                "upper": effect + width,
                "t": t,
                "p": 2.0 * t_sf(np.abs(t), df),
            }
        )

    def to_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """
        The means.

        Parameters
        ----------
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        DataFrame
            The grid's columns, ``mean``, ``se``, ``df``, ``lower``, ``upper``.

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
        >>> means.to_frame(alpha=0.1).columns.tolist()
        ['sex', 'mean', 'se', 'df', 'lower', 'upper']
        """
        table = self._table(self.matrix, alpha, "mean").drop(columns=["t", "p"])
        return pd.concat([self.grid, table], axis=1)

    def pairwise(
        self, adjust: str | None = "holm", alpha: float = 0.05
    ) -> pd.DataFrame:
        """
        All differences of two means, within the values of `by`.

        Parameters
        ----------
        adjust : str, optional
            Multiplicity adjustment within each value of `by`: ``"tukey"``
            (studentized range, as emmeans), or a method of
            :func:`statsmodels.stats.multitest.multipletests`; None for none.
        alpha : float
            1 - coverage of the intervals, which are adjusted for ``"tukey"``,
            ``"bonferroni"`` and ``"sidak"``, and not for the others.

        Returns
        -------
        DataFrame
            ``contrast``, the values of `by`, ``difference``, ``se``, ``df``,
            ``lower``, ``upper``, ``t``, ``p`` and, adjusted, ``p_adjusted``.

        Raises
        ------
        NotComputedError
            If there is no pair.

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
        >>> means.pairwise()["difference"].round(1).tolist()
        [-3.2]
        """
        names = [name for name in self.grid if name not in self.by]
        labels = [
            " ".join(str(value) for value in row)
            for row in self.grid[names].itertuples(index=False)
        ]
        within = self._within()
        rows, titles, blocks = [], [], []
        for members in within:
            for i, j in combinations(members, 2):
                rows.append(self.matrix[i] - self.matrix[j])
                titles.append(f"{labels[i]} - {labels[j]}")
                blocks.append(self.grid.iloc[i][self.by].to_list())
        if not rows:
            raise NotComputedError("there is one mean only: no pair to compare")
        count = len(within[0])
        return self._contrasts(np.array(rows), titles, adjust, alpha, blocks, count)

    def contrast(
        self,
        weights: Mapping[str, Sequence[float]] | Sequence[float],
        adjust: str | None = None,
        alpha: float = 0.05,
    ) -> pd.DataFrame:
        """
        Linear combinations of the means.

        Parameters
        ----------
        weights : mapping of name to sequence, or sequence of float
            One weight a row of `grid`.
        adjust, alpha
            As in :meth:`pairwise`.

        Returns
        -------
        DataFrame
            As :meth:`pairwise`.

        Raises
        ------
        LengthError
            If there are more or fewer weights than means.

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
        >>> means.contrast([-1, 1])["difference"].round(1).tolist()
        [3.2]
        """
        if not isinstance(weights, Mapping):
            weights = {"contrast": weights}
        if not weights:
            raise UnsupportedError("name at least one contrast")
        for row in weights.values():
            labels = getattr(row, "index", None)
            if isinstance(labels, pd.Index) and not labels.equals(self.grid.index):
                raise UnsupportedError(
                    "the labels of the weights are not those of the rows of `grid`; "
                    "bring them into its order and pass weights.to_numpy()"
                )
        try:
            table = np.array([np.asarray(row, dtype=float) for row in weights.values()])
        except (TypeError, ValueError) as error:
            raise UnsupportedError(
                "a contrast is a list of numbers, one for each mean, or a mapping of "
                f"names to such lists; this is {weights!r}"
            ) from error
        if table.ndim != 2 or table.shape[1] != len(self.matrix):
            raise LengthError(
                f"a contrast needs {len(self.matrix)} weights, one for each mean"
            )
        if not np.isfinite(table).all():
            raise MissingDataError("a weight of the contrast is missing or infinite")
        unknown = np.asarray(np.isnan(self.matrix).any(axis=1))
        matrix = without_rounding(table @ np.where(unknown[:, None], 0.0, self.matrix))
        matrix[(table[:, unknown] != 0.0).any(axis=1)] = np.nan
        return self._contrasts(matrix, list(weights), adjust, alpha)

    def _within(self) -> list[list[int]]:
        if not self.by:
            return [list(range(len(self.grid)))]
        found: dict[tuple[Any, ...], list[int]] = {}
        for k, row in enumerate(self.grid[self.by].itertuples(index=False)):
            found.setdefault(tuple(row), []).append(k)
        return list(found.values())

    def _contrasts(
        self,
        matrix: FloatArray,
        titles: list[str],
        adjust: str | None,
        alpha: float,
        blocks: Sequence[list[Any]] = (),
        count: int | None = None,
    ) -> pd.DataFrame:
        """
        Tests of contrasts, adjusted within families.

        Those are all pairs of `count` means, within the values of `by` in `blocks`;
        without them all contrasts.
        """
        level = check_alpha(alpha)
        family = len(matrix) if count is None else count * (count - 1) // 2
        if adjust == "bonferroni":
            level = level / family
        elif adjust == "sidak":
            level = 1.0 - (1.0 - level) ** (1.0 / family)
        table = self._table(without_rounding(matrix), level, "difference")
        if adjust == "tukey" and count is not None:
            width, p = studentized_range(table["t"], table["df"], count, alpha)
            table["lower"] = table["difference"] - width * table["se"]
            table["upper"] = table["difference"] + width * table["se"]
            table["p_adjusted"] = p
        elif adjust is not None:
            adjusted = np.full(len(table), np.nan)
            p = table["p"].to_numpy()
            for first in range(0, len(table), family):
                here = np.arange(first, min(first + family, len(p)))
                here = here[np.isfinite(p[here])]
                if not len(here):
                    continue
                try:
                    adjusted[here] = multipletests(p[here], method=adjust)[1]
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise UnsupportedError(
                        f"adjust={adjust!r}: choose a method of statsmodels' "
                        "multipletests, such as 'holm', 'bonferroni' or 'fdr_bh', or "
                        "for all pairs 'tukey'"
                    ) from error
            table["p_adjusted"] = adjusted
        left = pd.DataFrame({"contrast": titles})
        if self.by and blocks:
            left[self.by] = pd.DataFrame(blocks, columns=self.by)
        return pd.concat([left, table], axis=1)

    def __repr__(self) -> str:
        return self.to_frame().to_string(index=False)


def without_rounding(matrix: FloatArray) -> FloatArray:
    """
    Set to zero what is rounding beside the largest entry of its row.

    Containment asks which coefficients a contrast involves.

    Parameters
    ----------
    matrix : ndarray, shape (k, p)

    Returns
    -------
    ndarray, shape (k, p)
    """
    size = np.abs(matrix).max(axis=1, initial=0.0)[:, None]
    return np.where(np.abs(matrix) < 1e-13 * size, 0.0, matrix)


def studentized_range(
    t: ArrayLike, df: ArrayLike, count: int, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """
    Tukey's adjustment for all pairs of several means (Kramer's if unbalanced).

    Parameters
    ----------
    t, df : array_like, shape (k,)
        Statistics of the differences, and their degrees of freedom.
    count : int
        Number of means.
    alpha : float
        1 - coverage of all intervals together.

    Returns
    -------
    width : ndarray, shape (k,)
        Half widths of the intervals in standard errors.
    p : ndarray, shape (k,)

    References
    ----------
    Kramer, C. Y. (1956), Extension of multiple range tests to group means with
    unequal numbers of replications, Biometrics 12, 307-310.
    """
    t, df = np.asarray(t, dtype=float), np.asarray(df, dtype=float)
    # quantiles are found by iteration: once for each degrees of freedom
    distinct, where = np.unique(df, return_inverse=True)
    points = np.array(
        [stats.studentized_range.isf(check_alpha(alpha), count, v) for v in distinct]
    )
    p = [
        stats.studentized_range.sf(np.sqrt(2.0) * abs(x), count, v)
        for x, v in zip(t, df, strict=True)
    ]
    return points[where] / np.sqrt(2.0), np.clip(p, 0.0, 1.0)


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
    spec = fit.formula_spec
    if spec is None:
        raise NotComputedError(
            "marginal means need a model from a formula; with arrays use t_test with "
            "the rows of your own grid"
        )
    check_choice("weights", weights, ("equal", "proportional"))
    if fit.data.offset is not None:
        raise UnsupportedError(
            "marginal means of a model with an offset depend on it: predict rows with "
            "the offset that is meant, get_prediction(newdata)"
        )
    if cov_type is not None and df is not None:
        raise UnsupportedError(
            f"cov_type={cov_type!r} has degrees of freedom of its own; leave df= out"
        )
    if not isinstance(variables, Iterable) or not isinstance(at or {}, Mapping):
        raise UnsupportedError(
            f"variables={variables!r}, at={at!r}: name columns, such as 'treatment', "
            "and values by column, such as at={'time': [0, 1]}"
        )
    asked = [variables] if isinstance(variables, str) else list(variables)
    within = [] if by is None else [by] if isinstance(by, str) else list(by)
    frame = fit.data.frame
    assert frame is not None
    grid, matrix, rest = _grid(fit, frame, [*asked, *within], dict(at or {}), weights)
    if cov_type is not None:
        fit = fit.with_tests(resolve_df("satterthwaite"), sandwich(fit, cov_type))
    elif df is not None:
        fit = fit.with_tests(resolve_df(df), fit.robust)
    return MarginalMeans(grid, matrix, within, rest, fit)


def _grid(
    fit: Fit,
    data: pd.DataFrame,
    asked: Sequence[str],
    held: Mapping[str, Any],
    weights: str,
) -> tuple[pd.DataFrame, FloatArray, dict[str, Any]]:
    """
    The grid, its averaged rows of the design, and values of the other variables.

    Rows are NaN where combinations of levels without rows leave a mean unknown.
    """
    spec = fit.formula_spec
    assert spec is not None
    for name in [*asked, *held]:
        if name not in spec.variables:
            raise UnknownColumnError(
                f"{name!r} is not in the fixed effects {spec.formula!r}; there are "
                f"{', '.join(repr(known) for known in spec.variables)}"
            )
    focus = list(dict.fromkeys(asked))
    if not focus:
        raise UnsupportedError("name at least one variable")
    values = {
        name: _values(spec, data, name, held, name in focus) for name in spec.variables
    }
    others = [name for name in spec.variables if name not in focus]
    size = int(np.prod([len(v) for v in values.values()], dtype=float))
    if size > _LARGEST_GRID:
        raise UnsupportedError(
            f"the grid has {size} rows; hold some variables with at="
        )
    order = [*focus, *others]
    combined = pd.DataFrame(list(product(*(values[name] for name in order))))
    combined.columns = pd.Index(order)
    design = np.hstack(
        [
            spec.all_columns(combined),
            spec.smooth_columns(combined),
            fit.population.columns(combined),
        ]
    )
    inner = size // max(int(np.prod([len(values[n]) for n in focus])), 1)
    share = np.full(inner, 1.0 / inner)
    if weights == "proportional":
        share = _frequencies(data, combined.iloc[:inner], others, values)
    matrix = np.einsum("kip,i->kp", design.reshape(-1, inner, design.shape[1]), share)
    if not np.isfinite(matrix).all():
        raise NotComputedError(
            "the design at the grid is not finite: choose other values with at="
        )
    grid = combined[focus].iloc[::inner].reset_index(drop=True)
    rest = {name: values[name] for name in others}
    if spec.empty_cells is not None:
        count = len(spec.all_names)
        unknown = ~spec.empty_cells.determined(matrix[:, :count])
        kept = matrix[:, :count][:, spec.empty_cells.kept]
        matrix = np.hstack([kept, matrix[:, count:]])
        matrix[unknown] = np.nan
    return grid, without_rounding(matrix), rest


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
