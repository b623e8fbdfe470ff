"""
Results of one regression a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from mixedar._types import FloatArray
from mixedar.by_group.least_squares import GroupLeastSquares
from mixedar.data.new_rows import new_design, positions_of_groups
from mixedar.exceptions import GroupError, UnsupportedError, shown
from mixedar.inference.arguments import check_alpha

if TYPE_CHECKING:
    from mixedar.summary import ResultsSummary


def reasons(found: GroupLeastSquares, names: Sequence[str]) -> list[str]:
    """
    What keeps coefficients of a group from being known.

    Parameters
    ----------
    found : GroupLeastSquares
        p coefficients of m groups.
    names : sequence of str
        Names of the p columns.

    Returns
    -------
    list of str
        One text a group, empty where all coefficients are known.
    """
    p, m = found.coefficients.shape
    texts = [""] * m
    lacking = np.flatnonzero(~found.identified.all(axis=0))
    if not len(lacking):
        return texts
    # many groups lack the same for the same reason: word it once
    rows = np.minimum(found.nobs[lacking], p).astype(np.uint32)
    made_of = (found.combinations[:, :, lacking] != 0.0).reshape(p * p, -1)
    bits = np.vstack(
        [found.identified[:, lacking], found.dependent[:, lacking], made_of]
    )
    keys = np.hstack([rows.view(np.uint8).reshape(-1, 4), np.packbits(bits, axis=0).T])
    packed = np.ascontiguousarray(keys).view(f"V{keys.shape[1]}")[:, 0]
    _, first, which = np.unique(packed, return_index=True, return_inverse=True)
    worded = [
        _reason(
            int(found.nobs[lacking[k]]),
            names,
            found.identified[:, lacking[k]],
            found.dependent[:, lacking[k]],
            made_of[:, k].reshape(p, p),
        )
        for k in first
    ]
    for group, kind in zip(lacking.tolist(), which.tolist(), strict=True):
        texts[group] = worded[kind]
    return texts


def _reason(
    rows: int,
    names: Sequence[str],
    identified: NDArray[np.bool_],
    dependent: NDArray[np.bool_],
    made_of: NDArray[np.bool_],
) -> str:
    p = len(names)
    if rows == 0:
        return "no row without missing values"
    if rows < p:
        cause = f"{rows} row{'s' if rows > 1 else ''} for {p} coefficients"
    else:
        parts = []
        for a in np.flatnonzero(dependent).tolist():
            basis = [repr(names[j]) for j in np.flatnonzero(made_of[:, a]).tolist()]
            what = "zero in all rows"
            if len(basis) == 1:
                what = f"proportional to {basis[0]}"
            elif basis:
                what = f"a linear combination of {', '.join(basis)}"
            parts.append(f"{names[a]!r} is {what}")
        cause = "; ".join(parts)
    known = [repr(names[j]) for j in np.flatnonzero(identified).tolist()]
    return f"{cause} (known: {', '.join(known)})" if known else cause


class ByGroupResults:
    """
    Regressions of m groups with p coefficients each.

    Parameters
    ----------
    model : ByGroupOLS
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
    """

    def __init__(
        self, model: Any, solution: GroupLeastSquares, pool: bool = True
    ) -> None:
        self.model, self.pool = model, bool(pool)
        self._solution = solution
        self.nobs, self.n_groups = len(model.endog), len(model.labels)
        self.df_resid = int(solution.df.sum())
        self.scale = float("nan")
        if self.df_resid:
            self.scale = float(solution.ssr.sum() / self.df_resid)

    def __repr__(self) -> str:
        formula = self.model.formula or f"{self.model.endog_name} ~ ..."
        return (
            f"<ByGroupResults: {formula} in {self.n_groups} groups, pooled sd "
            f"{self.pooled_sd:.4g} on {self.df_resid} DF>"
        )

    @property
    def pooled_sd(self) -> float:
        """Residual standard deviation of all groups, with `df_resid`."""
        return float(np.sqrt(self.scale))

    @cached_property
    def params(self) -> pd.DataFrame:
        """Coefficients, shape (m, p); NaN where a group does not determine one."""
        found = self._solution
        return self._frame(np.where(found.identified, found.coefficients, np.nan))

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors, shape (m, p), as :meth:`standard_errors` gives them."""
        return self.standard_errors()

    @property
    def tvalues(self) -> pd.DataFrame:
        """Coefficients over their standard errors, shape (m, p)."""
        return self.params / self.bse

    @property
    def pvalues(self) -> pd.DataFrame:
        """Two-sided p-values by Student's t, shape (m, p)."""
        df = self._df(self.pool)[:, None]
        return self._frame(2.0 * stats.t.sf(np.abs(self.tvalues), df).T)

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
        return pd.DataFrame(
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
        return self.groups[self.groups["reason"] != ""]

    @cached_property
    def fittedvalues(self) -> pd.Series:
        """
        Fitted values in the caller's row order.

        They exist in every group, also where single coefficients do not.
        """
        return pd.Series(self._solution.fitted, self.model.index, name="fitted")

    @cached_property
    def resid(self) -> pd.Series:
        """Residuals in the caller's row order."""
        values = self.model.endog - self._solution.fitted
        return pd.Series(values, self.model.index, name="resid")

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
        """
        found = self._solution
        variances = np.einsum("jjm->jm", found.unscaled) * self._scales(pool)
        return self._frame(np.where(found.identified, np.sqrt(variances), np.nan))

    def cov_params(self, group: Any, pool: bool | None = None) -> pd.DataFrame:
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
        """
        if group not in self._index:
            raise GroupError(f"there is no group {shown(group)} in these results")
        i = int(np.flatnonzero(self._index == group)[0])
        found, names = self._solution, self.model.exog_names
        values = found.unscaled[:, :, i] * self._scales(pool)[i]
        lacking = ~found.identified[:, i]
        values[lacking] = values[:, lacking] = np.nan
        return pd.DataFrame(values, index=names, columns=names)

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
        """
        df = self._df(pool)
        half = stats.t.isf(check_alpha(alpha) / 2.0, np.where(df > 0, df, np.nan))
        estimate = self.params.to_numpy()
        errors = self.standard_errors(pool).to_numpy()
        width = errors * half[:, None]
        p = estimate.shape[1]
        names = pd.Index(self.model.exog_names, name="coefficient")
        return pd.DataFrame(
            {
                "estimate": estimate.ravel(),
                "std_error": errors.ravel(),
                "df": np.repeat(df, p),
                "lower": (estimate - width).ravel(),
                "upper": (estimate + width).ravel(),
            },
            index=pd.MultiIndex.from_product([self._index, names]),
        )

    def predict(
        self, data: Any = None, groups: Any = None, unknown: str = "error"
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
        """
        if data is None and groups is None:
            return self.fittedvalues.copy()
        if unknown not in ("error", "nan"):
            raise UnsupportedError(f"unknown={unknown!r}: choose 'error' or 'nan'")
        x, labels, index = new_design(self.model, data, groups)
        codes = positions_of_groups(self._index, labels, index, unknown)
        values = np.full(len(x), np.nan)
        here = (codes >= 0) & np.isfinite(x).all(axis=1)
        found, x, codes = self._solution, x[here], codes[here]
        predicted = np.einsum("kp,pk->k", x, found.coefficients[:, codes])
        determined = found.determined(x, codes)
        values[here] = np.where(determined, predicted, np.nan)
        return pd.Series(values, index=index, name="predicted")

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
        """
        from mixedar.by_group.summary import summarize

        return summarize(self, title, alpha, self._pooled(pool), max_groups)

    def plot(
        self,
        coefficients: str | Sequence[str] | None = None,
        alpha: float = 0.05,
        pool: bool | None = None,
        *,
        sort_by: str | None = None,
        max_groups: int = 400,
        ax: Any = None,
    ) -> Any:
        """
        Intervals of the coefficients by group.

        See :func:`mixedar.plotting.coefficients.plot_intervals`.
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
        return pd.Index(self.model.labels, name=self.model.groups_name)

    def _frame(self, values: FloatArray) -> pd.DataFrame:
        """A frame of values by coefficient and group, shape (p, m)."""
        return pd.DataFrame(values.T, self._index, self.model.exog_names)

    def _pooled(self, pool: bool | None) -> bool:
        return self.pool if pool is None else bool(pool)

    def _scales(self, pool: bool | None) -> FloatArray:
        """Residual variance for each group, shape (m,)."""
        found = self._solution
        if self._pooled(pool):
            return np.full(self.n_groups, self.scale)
        lacking = np.full(self.n_groups, np.nan)
        return np.divide(found.ssr, found.df, out=lacking, where=found.df > 0)

    def _df(self, pool: bool | None) -> NDArray[np.intp]:
        """Degrees of freedom of each group's standard errors, shape (m,)."""
        if self._pooled(pool):
            return np.full(self.n_groups, self.df_resid)
        return self._solution.df
