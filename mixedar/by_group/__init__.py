"""
A regression of its own for each group, and what a mixed model makes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from mixedar._lazy import class_with_near_names, with_near_names
from mixedar._types import FloatArray
from mixedar.by_group.least_squares import GroupLeastSquares, fit_rows
from mixedar.by_group.results import ByGroupResults
from mixedar.by_group.streamed import read_groups
from mixedar.data.checks import (
    check_columns,
    check_distinct,
    group_codes,
)
from mixedar.data.formula import FormulaSpec, as_namespace, build_design
from mixedar.data.given import (
    as_rows,
    check_missing,
    drop_missing,
    named_columns,
    positive_weights,
    response_vector,
    row_labels,
    subset_rows,
    warn_dropped,
)
from mixedar.data.rows import as_frame, names_columns, row_variable
from mixedar.exceptions import (
    EmptyDataError,
    GroupError,
)
from mixedar.streams import as_source
from mixedar.summary import (
    NamedInALine,
    in_a_line,
)

if TYPE_CHECKING:
    from typing_extensions import Self


@with_near_names
def by_group(
    formula: str,
    data: object,
    groups: object = None,
    *,
    pool: bool = True,
    weights: object = None,
    subset: object = None,
    missing: str = "none",
    eval_env: object = None,
) -> ByGroupResults:
    """
    Least squares in every group on its own (nlme's ``lmList``).

    Parameters
    ----------
    formula : str
        Response and regressors, such as ``"y ~ time"``.  It is evaluated once, on
        all rows: ``center(x)`` subtracts the mean of all groups, and levels of a
        factor are those of the whole data.
    data : DataFrame, dict of arrays, structured array or source
        Rows of a source (``mar.scan``) are read in batches; then `groups`, `weights`
        and `subset` are texts.
    groups : str, list of str or array_like
        Column of group labels, columns whose combinations are the groups, or one
        label for each row.
    pool : bool
        Whether standard errors use one residual standard deviation for all
        groups, with the degrees of freedom of all of them, or each group its own.
    weights : str or array_like, optional
        Column of inverse variances of the rows, up to a constant, or one for each
        row; the residual variance is that of a row of weight one.
    subset : array_like or str, optional
        Rows to use, as ``data.loc[subset]``: a mask (of pandas, polars or NumPy) or
        labels; or a condition on the columns, ``"age > 8 and sex == 'Male'"``.
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
    source = as_source(data)
    if source is not None:
        rows = subset, missing, as_namespace(eval_env)
        return read_groups(source, formula, groups, weights, rows).fit(pool)
    model = ByGroupOLS.from_formula(
        formula,
        data,
        groups,
        weights=weights,
        subset=subset,
        missing=missing,
        eval_env=eval_env,
    )
    return model.fit(pool)


@class_with_near_names
class ByGroupOLS(NamedInALine):
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
    weights : array_like, shape (n,), optional
        Inverse variances of the rows, up to a constant.

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
    weights : ndarray, shape (n,), or None
    formula : str or None
    formula_spec : FormulaSpec or None
        Builds `exog` for new data.
    group_columns : list of str or None
        Columns whose combinations are the groups.

    Raises
    ------
    MixedARError
        For data that cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> from mixedar.api import ByGroupOLS
    >>> from mixedar.datasets import load_orthodont
    >>> teeth = load_orthodont()
    >>> exog = np.column_stack([np.ones(len(teeth)), teeth["age"]])
    >>> own = ByGroupOLS(teeth["distance"], exog, teeth["subject"]).fit()
    >>> own.params.shape
    (27, 2)
    """

    def __init__(
        self,
        endog: object,
        exog: object,
        groups: object,
        missing: str = "none",
        *,
        levels: object = None,
        weights: object = None,
    ) -> None:
        check_missing(missing)
        if groups is None:
            raise GroupError("groups= is missing: pass one group label for each row")
        self.formula: str | None = None
        self.formula_spec: FormulaSpec | None = None
        self.group_columns: list[str] | None = None
        self.endog_name = str(getattr(endog, "name", None) or "y")
        self.groups_name = str(getattr(groups, "name", None) or "Group")
        self.endog = response_vector(endog)
        self.exog, self.exog_names = named_columns(exog)
        rows = as_rows(endog=endog, exog=exog, groups=groups, weights=weights)
        groups, weights = rows["groups"], rows["weights"]
        labels = _series(groups)
        index = row_labels(endog, exog, groups)
        self.index = pd.RangeIndex(len(self.endog)) if index is None else index
        self.n_dropped = 0
        if missing == "drop":
            levels = labels if levels is None else levels
            arrays = self.endog, self.exog, labels, self.index, weights
            kept, _, self.n_dropped = drop_missing(arrays)
            self.endog, self.exog, labels, self.index, weights = kept
            warn_dropped(self.n_dropped)
        check_distinct(self.exog_names, "regressors'")
        if not len(self.endog):
            raise EmptyDataError(
                "there are no observations; check subset= and missing="
            )
        for values, names, what in (
            (self.endog, [self.endog_name], "the response's"),
            (self.exog, self.exog_names, "the regressors'"),
        ):
            check_columns(values, names, what, self.index)
        self.weights = None
        if weights is not None:
            name = str(getattr(weights, "name", None) or "weights")
            self.weights = positive_weights(weights, name, pd.Index(self.index))
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
        data: object,
        groups: object = None,
        *,
        weights: object = None,
        subset: object = None,
        missing: str = "none",
        eval_env: object = None,
    ) -> Self:
        """
        Build the model from a formula.

        Parameters
        ----------
        formula, data, groups, weights, subset, missing, eval_env
            As for :func:`by_group`.

        Returns
        -------
        ByGroupOLS

        Raises
        ------
        MixedARError
            For data or a formula that cannot be used.

        Examples
        --------
        >>> from mixedar.api import ByGroupOLS
        >>> from mixedar.datasets import load_orthodont
        >>> model = ByGroupOLS.from_formula(
        ...     "distance ~ age", load_orthodont(), groups="subject"
        ... )
        >>> model.fit().params.columns.tolist()
        ['Intercept', 'age']
        """
        table = as_frame(data)
        if isinstance(groups, (list, tuple)) and not names_columns(groups, table):
            groups = _series(groups).array
        design = build_design(
            formula,
            table,
            groups=groups,
            re_formula="0",
            extra=None if weights is None else {"weights": weights},
            subset=subset,
            missing=missing,
            eval_env=eval_env,
        )
        index, levels = design.index, None
        if design.n_dropped:  # groups may have lost all their rows
            levels = row_variable("groups", groups, table).values
            if subset is not None:
                kept = subset_rows(subset, table, as_namespace(eval_env))
                levels = levels.iloc[kept]
        model = cls(
            pd.Series(design.endog, index, name=design.endog_name, copy=False),
            pd.DataFrame(design.exog, index, design.exog_names, copy=False),
            design.group_values,
            levels=levels,
            weights=None if weights is None else design.extra["weights"],
        )
        model.n_dropped, model.groups_name = design.n_dropped, design.groups_name
        warn_dropped(design.n_dropped)
        if isinstance(groups, (list, tuple)) and names_columns(groups, table):
            model.group_columns = list(groups)
        model.formula, model.formula_spec = formula, design.model_spec
        return model

    def __repr__(self) -> str:
        size = f"{len(self.endog)} rows, {len(self.labels)} groups"
        return in_a_line(self, self.formula, str(self.endog_name), size)

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

        Examples
        --------
        >>> from mixedar.api import ByGroupOLS
        >>> from mixedar.datasets import load_orthodont
        >>> model = ByGroupOLS.from_formula(
        ...     "distance ~ age", load_orthodont(), groups="subject"
        ... )
        >>> own = model.fit(pool=False)
        >>> own.bse.loc["M13"].round(2).to_dict()
        {'Intercept': 4.76, 'age': 0.42}
        """
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
        count = len(self.labels)
        return fit_rows(self.exog, endog, self.codes, count, self.weights)


def _series(labels: Any) -> pd.Series:
    """Labels under positions; a list may mix types, which an array would hide."""
    values = getattr(labels, "array", labels)
    return pd.Series(values if hasattr(values, "dtype") else list(values))


__all__ = ["ByGroupOLS", "ByGroupResults", "by_group"]
