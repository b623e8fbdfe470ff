"""
The same regression in every group.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.by_group.least_squares import GroupLeastSquares, fit_groups
from mixedar.data.checks import (
    check_finite,
    check_lengths,
    check_magnitude,
    float_array,
    group_codes,
)
from mixedar.data.formula import build_design, capture_namespace
from mixedar.data.formula.columns import as_frame
from mixedar.data.new_rows import index_of, names_columns, row_labels
from mixedar.data.rows import subset_rows
from mixedar.exceptions import (
    DroppedRowsWarning,
    EmptyDataError,
    GroupError,
    RankDeficiencyError,
    ResponseError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from mixedar.by_group.results import ByGroupResults


def by_group(
    formula: str,
    data: Any,
    groups: Any = None,
    *,
    pool: bool = True,
    subset: Any = None,
    missing: str = "none",
    eval_env: Any = None,
) -> ByGroupResults:
    """
    Least squares in every group on its own (nlme's ``lmList``).

    Parameters
    ----------
    formula : str
        Response and regressors, such as ``"y ~ time"``.  It is evaluated once, on
        all rows: ``center(x)`` subtracts the mean of all groups, and levels of a
        factor are those of the whole data.
    data : DataFrame, dict of arrays or structured array
    groups : str, list of str or array_like
        Column of group labels, columns whose combinations are the groups, or one
        label for each row.
    pool : bool
        Whether standard errors use one residual standard deviation for all
        groups, with the degrees of freedom of all of them, or each group its own.
    subset : array_like, optional
        Rows to use, as ``data.loc[subset]``.
    missing : {"none", "raise", "drop"}
        Missing values raise, or their rows are left out with a warning; a group
        that has no other row stays in the results, without coefficients.
    eval_env : int, mapping or patsy.EvalEnvironment, optional
        Where the formula finds functions and variables: the caller's scope by
        default, ``-1`` for none.

    Returns
    -------
    ByGroupResults
        A row for every group.  Coefficients that the rows of a group do not
        determine are NaN, and ``problems`` has the reasons.

    Raises
    ------
    MixedARError
        For data or a formula that cannot be used.

    References
    ----------
    Pinheiro, J. C. and Bates, D. M. (2000), Mixed-Effects Models in S and S-PLUS,
    Springer, section 4.1.

    Examples
    --------
    >>> import mixedar.formula.api as mar
    >>> from mixedar.datasets import load_orthodont
    >>> own = mar.by_group("distance ~ age", load_orthodont(), groups="subject")
    >>> own.params.loc["M13"].round(2).to_dict()
    {'Intercept': 2.8, 'age': 1.95}
    """
    if isinstance(eval_env, int) and eval_env >= 0:
        eval_env = capture_namespace(eval_env + 1)
    model = ByGroupOLS.from_formula(
        formula, data, groups, subset=subset, missing=missing, eval_env=eval_env
    )
    return model.fit(pool)


class ByGroupOLS:
    """
    One regression for each group, with the same columns.

    Parameters
    ----------
    endog : array_like, shape (n,)
        Response.
    exog : array_like, shape (n, p)
        Regressors; a constant is not added.
    groups : array_like, shape (n,)
        Labels of the groups.
    missing : {"none", "raise", "drop"}
        Missing values raise, or their rows are dropped from every array.
    levels : array_like, optional
        Labels of all groups that the results should have, for groups without rows;
        by default those in `groups`, before rows are dropped.

    Attributes
    ----------
    endog : ndarray, shape (n,)
    exog : ndarray, shape (n, p)
    exog_names : list of str
    endog_name, groups_name : str
    codes : ndarray of int, shape (n,)
        Number of the group of each row.
    labels : ndarray, shape (m,)
        Labels of the groups, sorted.
    index : Index
        Labels of the rows.
    n_dropped : int
        Rows left out because of missing values.
    formula : str or None
    formula_spec : FormulaSpec or None
        Builds `exog` for new data.
    group_columns : list of str or None
        Columns whose combinations are the groups.

    Raises
    ------
    MixedARError
        For data that cannot be used.
    """

    def __init__(
        self,
        endog: Any,
        exog: Any,
        groups: Any,
        missing: str = "none",
        *,
        levels: Any = None,
    ) -> None:
        if missing not in ("none", "raise", "drop"):
            raise UnsupportedError(
                f"missing={missing!r}: choose 'none', 'raise' or 'drop'"
            )
        if groups is None:
            raise GroupError("groups= is missing: pass one group label for each row")
        self.formula: str | None = None
        self.formula_spec: Any = None
        self.group_columns: list[str] | None = None
        self.endog_name = str(getattr(endog, "name", None) or "y")
        self.groups_name = str(getattr(groups, "name", None) or "Group")
        self.endog = _vector(endog)
        self.exog, self.exog_names = _matrix(exog)
        check_lengths(len(self.endog), exog=self.exog, groups=groups)
        labels = _series(groups)
        self.index = index_of(endog, exog, length=len(self.endog))
        self.n_dropped = 0
        if missing == "drop":
            levels = labels if levels is None else levels
            labels = self._drop(labels)
        if not len(self.endog):
            raise EmptyDataError(
                "there are no observations; check subset= and missing="
            )
        names = [self.endog_name]
        check_finite(self.endog, names, "the response's", self.index)
        check_magnitude(self.endog, names, "the response's")
        check_finite(self.exog, self.exog_names, "the regressors'", self.index)
        check_magnitude(self.exog, self.exog_names, "the regressors'")
        if levels is not None:
            levels = _series(levels)
            levels = levels[levels.notna()].drop_duplicates()
            labels = pd.concat([labels, levels], ignore_index=True)
        codes, self.labels = group_codes(labels)
        self.codes = codes[: len(self.endog)]

    @classmethod
    def from_formula(
        cls,
        formula: str,
        data: Any,
        groups: Any = None,
        *,
        subset: Any = None,
        missing: str = "none",
        eval_env: Any = None,
    ) -> Self:
        """
        Build the model from a formula; arguments as for :func:`by_group`.

        Returns
        -------
        ByGroupOLS

        Raises
        ------
        MixedARError
            For data or a formula that cannot be used.
        """
        if eval_env is None:
            eval_env = capture_namespace()
        elif isinstance(eval_env, int) and eval_env >= 0:
            eval_env = capture_namespace(eval_env + 1)
        table = as_frame(data)
        if isinstance(groups, (list, tuple)) and not names_columns(groups, table):
            groups = _series(groups)
        design = build_design(
            formula,
            table,
            groups=groups,
            re_formula="0",
            subset=subset,
            missing=missing,
            eval_env=eval_env,
        )
        index, levels = design.index, None
        if design.n_dropped:  # groups may have lost all their rows
            levels = row_labels(groups, table)
            if subset is not None:
                levels = levels.iloc[subset_rows(subset, table.index)]
        model = cls(
            pd.Series(design.endog, index, name=design.endog_name, copy=False),
            pd.DataFrame(design.exog, index, design.exog_names, copy=False),
            design.group_values,
            levels=levels,
        )
        model.n_dropped = design.n_dropped
        _warn_dropped(design.n_dropped)
        model.groups_name = design.groups_name
        if names_columns(groups, table):
            model.group_columns = list(groups)
        model.formula, model.formula_spec = formula, design.model_spec
        return model

    def fit(self, pool: bool = True) -> ByGroupResults:
        """
        Estimate the coefficients of all groups.

        Parameters
        ----------
        pool : bool
            Whether standard errors use one residual standard deviation for all
            groups.

        Returns
        -------
        ByGroupResults
        """
        from mixedar.by_group.results import ByGroupResults

        return ByGroupResults(self, self.solve(self.endog), pool)

    def solve(self, endog: FloatArray) -> GroupLeastSquares:
        """
        Least squares for any response.

        Parameters
        ----------
        endog : ndarray, shape (n,)
            In the order of the model's rows.

        Returns
        -------
        GroupLeastSquares
            Its fitted values are in the order of the model's rows too.
        """
        sizes = np.bincount(self.codes, minlength=len(self.labels))
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        if (np.diff(self.codes) >= 0).all():
            return fit_groups(self.exog, endog, offsets)
        order = np.argsort(self.codes, kind="stable")
        found = fit_groups(self.exog[order], endog[order], offsets)
        fitted = np.empty(len(endog))
        fitted[order] = found.fitted
        return replace(found, fitted=fitted)

    def _drop(self, labels: pd.Series) -> pd.Series:
        keep = ~(np.isnan(self.endog) | np.isnan(self.exog).any(axis=1))
        keep &= labels.notna().to_numpy()
        self.n_dropped = len(keep) - int(keep.sum())
        _warn_dropped(self.n_dropped)
        self.endog, self.exog, self.index = (
            self.endog[keep],
            self.exog[keep],
            self.index[keep],
        )
        return labels[keep]


def _vector(endog: Any) -> FloatArray:
    values = float_array(endog, "the response")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise ResponseError(
            f"the response has the shape {values.shape}; model one column at a time"
        )
    return values


def _matrix(exog: Any) -> tuple[FloatArray, list[str]]:
    """The regressors as (n, p), and their names."""
    values = float_array(exog, "exog")
    if values.ndim == 1:
        values = values[:, None]
    columns = getattr(exog, "columns", None)
    if columns is not None:
        names = [str(column) for column in columns]
    elif getattr(exog, "name", None) is not None:
        names = [str(exog.name)]
    else:
        names = [f"x{k}" for k in range(1, values.shape[1] + 1)]
    if not names:
        raise RankDeficiencyError(
            "there is no column to regress on; write 'y ~ 1' for the means of the "
            "groups"
        )
    return values, names


def _series(labels: Any) -> pd.Series:
    """Labels under positions; a list may mix types, which an array would hide."""
    values = getattr(labels, "array", labels)
    return pd.Series(values if hasattr(values, "dtype") else list(values))


def _warn_dropped(count: int) -> None:
    if count:
        warnings.warn(
            f"{count} row{'s' if count > 1 else ''} with missing values "
            f"{'were' if count > 1 else 'was'} left out",
            DroppedRowsWarning,
            stacklevel=4,
        )
