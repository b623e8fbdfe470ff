"""
Results of regressions by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.by_group.least_squares import GroupLeastSquares, reasons
from mixedar.by_group.summary import coefficient, distribution, header_of, notes_of
from mixedar.data.designs import regressors
from mixedar.data.formula import FormulaSpec
from mixedar.data.rows import Levels
from mixedar.exceptions import (
    GroupError,
    check_alpha,
    check_choice,
    check_flags,
    shown,
)
from mixedar.summary import ResultFrame, ResultsSummary, Summarised, in_a_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure


class GroupModel(Protocol):
    """What results ask of the regressions that were fitted."""

    formula: str | None
    formula_spec: FormulaSpec | None
    endog_name: str
    exog_names: list[str]
    groups_name: str
    group_columns: list[str] | None
    labels: NDArray[Any]
    index: pd.Index
    endog: FloatArray
    exog: FloatArray
    codes: IntArray


class ByGroupResults(Summarised):
    """
    Regressions of m groups with p coefficients each.

    Parameters
    ----------
    model : GroupModel
    solution : GroupLeastSquares
    pool : bool
        Whether standard errors use one residual standard deviation.

    Attributes
    ----------
    nobs, n_groups : int
    pool : bool
    df_resid : int
        Residual degrees of freedom of all groups together.
    scale : float
        Pooled residual variance; NaN without degrees of freedom.

    Notes
    -----
    All frames have one row for every group, indexed by its label.  Standard
    errors, tests and intervals are exact for independent normal residuals, with
    the same variance in all groups if `pool` is true.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> own = mar.by_group("distance ~ age", teeth, groups="subject")
    >>> own.params.loc["F01"].round(2).to_dict()
    {'Intercept': 17.25, 'age': 0.38}
    >>> round(own.pooled_sd, 2)
    1.31
    """

    def __init__(
        self, model: GroupModel, solution: GroupLeastSquares, pool: bool = True
    ) -> None:
        check_flags(pool=pool)
        self.model, self.pool = model, bool(pool)
        self._solution = solution
        self.nobs, self.n_groups = int(solution.nobs.sum()), len(model.labels)
        self.df_resid = int(solution.df.sum())
        total = float(solution.ssr.sum())
        self.scale = total / self.df_resid if self.df_resid else float("nan")

    def __repr__(self) -> str:
        return in_a_line(
            self,
            self.model.formula,
            self.model.endog_name,
            f"{self.n_groups} groups",
            f"pooled sd {self.pooled_sd:.4g} on {self.df_resid} DF",
        )

    @property
    def pooled_sd(self) -> float:
        """Residual standard deviation of all groups, with `df_resid`."""
        return float(np.sqrt(self.scale))

    @cached_property
    def params(self) -> pd.DataFrame:
        """Coefficients, shape (m, p); NaN where a group does not determine one."""
        return self._known(self._solution.coefficients)

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors, shape (m, p), as :meth:`standard_errors` gives them."""
        return self.standard_errors()

    @property
    def tvalues(self) -> pd.DataFrame:
        """Coefficients over their standard errors, shape (m, p)."""
        return ResultFrame.of(self.params / self.bse, "statistic")

    @property
    def pvalues(self) -> pd.DataFrame:
        """Two-sided p-values by Student's t, shape (m, p)."""
        t, df = self.tvalues, self._df(self.pool)[:, None]
        values = 2.0 * stats.t.sf(np.abs(t), df)
        return ResultFrame.of(pd.DataFrame(values, t.index, t.columns), "pvalue")

    @cached_property
    def groups(self) -> pd.DataFrame:
        """
        The regressions one by one.

        Returns
        -------
        DataFrame, shape (m, 6)
            ``nobs``, ``rank`` of the design, ``df_resid``, ``ssr`` (sum of squared
            residuals), ``sigma`` (own residual standard deviation, NaN without
            degrees of freedom) and ``reason``, which says why coefficients are
            missing; empty where none is.
        """
        found = self._solution
        return ResultFrame(
            {
                "nobs": found.nobs,
                "rank": found.rank,
                "df_resid": found.df,
                "ssr": found.ssr,
                "sigma": np.sqrt(self._scales(pool=False)),
                "reason": reasons(found, self.model.exog_names),
            },
            index=self._index,
        )

    @property
    def problems(self) -> pd.DataFrame:
        """The rows of :attr:`groups` whose coefficients are not all known."""
        return ResultFrame.of(self.groups[self.groups["reason"] != ""])

    @cached_property
    def fittedvalues(self) -> pd.Series:
        """
        Fitted values in the caller's row order.

        They exist in every group, also where single coefficients do not.
        """
        index = self.model.index
        return pd.Series(self._solution.fitted, index, name="fitted")

    @cached_property
    def resid(self) -> pd.Series:
        """Residuals in the caller's row order."""
        return pd.Series(self.model.endog - self.fittedvalues, name="resid")

    def standard_errors(self, pool: bool | None = None) -> pd.DataFrame:
        """
        Standard errors of the coefficients.

        Parameters
        ----------
        pool : bool, optional
            With the pooled standard deviation or each group's own; that of the
            results by default.

        Returns
        -------
        DataFrame, shape (m, p)
            NaN where there is no coefficient, or no degree of freedom.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> own = mar.by_group("distance ~ age", teeth, groups="subject")
        >>> own.standard_errors(pool=False).loc["F01"].round(2).to_dict()
        {'Intercept': 2.43, 'age': 0.22}
        """
        diagonals = np.einsum("jjm->jm", self._solution.unscaled)
        return self._known(np.sqrt(diagonals * self._scales(pool)))

    def cov_params(self, group: object, pool: bool | None = None) -> pd.DataFrame:
        """
        Covariance matrix of the coefficients of one group.

        Parameters
        ----------
        group : label
        pool : bool, optional
            As for :meth:`standard_errors`.

        Returns
        -------
        DataFrame, shape (p, p)

        Raises
        ------
        GroupError
            If there is no such group.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> own = mar.by_group("distance ~ age", teeth, groups="subject")
        >>> own.cov_params("F01").shape
        (2, 2)
        """
        if group not in self._index:
            raise GroupError(f"there is no group {shown(group)} in these results")
        i = int(np.flatnonzero(self._index == group)[0])
        found, names = self._solution, self.model.exog_names
        values = found.unscaled[:, :, i] * self._scales(pool)[i]
        lacking = ~found.identified[:, i]
        values[lacking] = values[:, lacking] = np.nan
        return ResultFrame.of(pd.DataFrame(values, names, names), "number")

    def conf_int(self, alpha: float = 0.05, pool: bool | None = None) -> pd.DataFrame:
        """
        Coefficients with intervals (nlme's ``intervals`` of an ``lmList``).

        Parameters
        ----------
        alpha : float
            1 - coverage of each interval.
        pool : bool, optional
            As for :meth:`standard_errors`.

        Returns
        -------
        DataFrame, shape (m p, 5)
            A row for each group and coefficient, its index; ``estimate``,
            ``std_error``, ``df``, ``lower``, ``upper``.

        Raises
        ------
        UnsupportedError
            If `alpha` is not between 0 and 1.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> own = mar.by_group("distance ~ age", teeth, groups="subject")
        >>> own.conf_int().columns.tolist()
        ['estimate', 'std_error', 'df', 'lower', 'upper']
        """
        df = self._df(pool)
        half = stats.t.isf(check_alpha(alpha) / 2.0, np.where(df > 0, df, np.nan))
        estimate = self.params.to_numpy()
        errors = self.standard_errors(pool).to_numpy()
        width = errors * half[:, None]
        names = pd.Index(self.model.exog_names, name="coefficient")
        return ResultFrame(
            {
                "estimate": estimate.ravel(),
                "std_error": errors.ravel(),
                "df": np.repeat(df, len(names)),
                "lower": (estimate - width).ravel(),
                "upper": (estimate + width).ravel(),
            },
            index=pd.MultiIndex.from_product([self._index, names]),
        )

    def predict(
        self, data: object = None, groups: object = None, unknown: str = "error"
    ) -> pd.Series:
        """
        Predictions from the regression of each row's own group.

        Parameters
        ----------
        data : DataFrame, dict or array_like, optional
            New rows for the formula, or a design matrix; fitted values by default.
        groups : str or array_like, optional
            Their groups: labels or a column of `data`, by default the column with
            the name of the model's groups.
        unknown : {"error", "nan"}
            What to do with groups that are not in the results.

        Returns
        -------
        Series
            In the order of the rows; NaN where the rows of a group do not
            determine the value.

        Raises
        ------
        GroupError
            If a group is not known and `unknown` is ``"error"``.
        UnknownColumnError, LengthError, UnsupportedError
            If `data` do not fit the model.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> own = mar.by_group("distance ~ age", teeth, groups="subject")
        >>> own.predict(teeth.head(2)).round(2).tolist()
        [20.25, 21.0]
        """
        if data is None and groups is None:
            return self.fittedvalues.copy()
        check_choice("unknown", unknown, ("error", "nan"))
        x, labels = regressors(
            self.model.formula_spec,
            self.model.exog_names,
            self.model.group_columns or self.model.groups_name,
            data,
            groups,
        )
        known = Levels(self._index.to_series())
        if unknown == "error":
            remedy = "leave such rows out, or pass unknown='nan'"
            codes = known.known_groups(labels, remedy)
        else:
            codes = known.numbers(labels)
        values = np.full(len(x), np.nan)
        here = (codes >= 0) & np.isfinite(x).all(axis=1)
        found, x, codes = self._solution, x[here], codes[here]
        predicted = np.einsum("kp,pk->k", x, found.coefficients[:, codes])
        determined = found.determined(x, codes)
        values[here] = np.where(determined, predicted, np.nan)
        return pd.Series(values, index=labels.index, name="predicted")

    def summary(
        self,
        title: str | None = None,
        alpha: float = 0.05,
        pool: bool | None = None,
        max_groups: int = 30,
    ) -> ResultsSummary:
        """
        Tables of the fit.

        Parameters
        ----------
        title : str, optional
        alpha : float
            1 - coverage of the intervals.
        pool : bool, optional
            As for :meth:`standard_errors`.
        max_groups : int
            With more groups only the distribution of the coefficients is shown,
            not a table of each coefficient.

        Returns
        -------
        ResultsSummary

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> own = mar.by_group("distance ~ age", teeth, groups="subject")
        >>> page = own.summary(max_groups=5).as_text()
        """
        check_alpha(alpha)
        groups, pooled, spec = self.groups, self._pooled(pool), self.model.formula_spec
        tables = [distribution(self.params)]
        if self.n_groups <= max_groups:
            intervals = self.conf_int(alpha, pool)
            tables += [coefficient(intervals, str(name), alpha) for name in self.params]
        return ResultsSummary(
            title or "Least squares by group",
            header_of(groups, self.model.endog_name, pooled),
            tables,
            [*notes_of(groups, pooled), *([] if spec is None else spec.notes())],
        )

    def plot(
        self,
        coefficients: str | Sequence[str] | None = None,
        alpha: float = 0.05,
        pool: bool | None = None,
        *,
        sort_by: str | None = None,
        max_groups: int = 400,
        ax: Axes | Sequence[Axes] | None = None,
    ) -> Axes | Figure | SubFigure:
        """
        Intervals of the coefficients by group, nlme's ``plot(intervals(fm))``.

        Parameters
        ----------
        coefficients : str or sequence of str, optional
            Coefficients to draw, one a panel; all by default.
        alpha : float
            1 - coverage.
        pool : bool, optional
            Whether standard errors use the residual variance of all groups, as in
            :meth:`conf_int`.
        sort_by : str, optional
            The coefficient whose estimates order the groups, in all panels alike; the
            first one drawn by default.
        max_groups : int
            Of more groups so many are drawn, evenly by rank.
        ax : Axes or sequence of Axes, optional
            One for each panel.

        Returns
        -------
        matplotlib.axes.Axes or Figure
            The figure if there are several panels.

        Examples
        --------
        >>> import mixedar.formula.api as mar
        >>> from mixedar.datasets import load_orthodont
        >>> teeth = load_orthodont()
        >>> own = mar.by_group("distance ~ age", teeth, groups="subject")
        >>> figure = own.plot()
        >>> len(figure.axes)
        2
        """
        from mixedar.plotting.coefficients import plot_intervals

        return plot_intervals(
            self.conf_int(alpha, pool),
            coefficients,
            alpha=alpha,
            sort_by=sort_by,
            max_groups=max_groups,
            ax=ax,
        )

    @cached_property
    def _index(self) -> pd.Index:
        return pd.Index(
            self.model.labels, name=self.model.groups_name, tupleize_cols=False
        )

    def _known(self, values: FloatArray) -> pd.DataFrame:
        """A frame of values, shape (p, m), by group; NaN for unknown coefficients."""
        values = np.where(self._solution.identified, values, np.nan)
        frame = pd.DataFrame(values.T, self._index, self.model.exog_names)
        return ResultFrame.of(frame, "number")

    def _pooled(self, pool: bool | None) -> bool:
        check_choice("pool", pool, (None, True, False))
        return self.pool if pool is None else bool(pool)

    def _scales(self, pool: bool | None) -> FloatArray:
        """Residual variance for each group, shape (m,)."""
        found = self._solution
        if self._pooled(pool):
            return np.full(self.n_groups, self.scale)
        lacking = np.full(self.n_groups, np.nan)
        return np.divide(found.ssr, found.df, out=lacking, where=found.df > 0)

    def _df(self, pool: bool | None) -> IntArray:
        """Degrees of freedom of each group's standard errors, shape (m,)."""
        pooled = np.full(self.n_groups, self.df_resid)
        return pooled if self._pooled(pool) else self._solution.df
