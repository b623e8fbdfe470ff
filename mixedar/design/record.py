"""
What a model gets from its formulas: aligned arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from mixedar.design.components import VarianceComponent, vc_spec
from mixedar.design.spec import FormulaSpec

__all__ = ["Design"]


@dataclass(frozen=True)
class Design:
    """
    Arrays of a model, in the caller's row order.

    Attributes
    ----------
    endog : ndarray, (n,)
        Response.
    endog_name : str
        Its name.
    exog : ndarray, (n, p)
        Fixed-effects design.
    exog_names : list[str]
        Names of its columns.
    model_spec : FormulaSpec
        Builds `exog` for new data.
    exog_re : ndarray, (n, q), or None
        Random-effects design; None if there are no correlated random effects.
    exog_re_names : list[str]
        Names of its columns, the intercept under the name of the groups.
    re_spec : FormulaSpec or None
        Builds `exog_re` for new data; None also for plain intercepts.
    groups_name : str
        Name of the groups' column, else ``"Group"``.
    group_values : pandas.Series or None
        Group labels in the caller's dtype.
    time : pandas.Series or None
        Times in the caller's dtype.
    time_name : str or None
        Name of the time variable.
    series : pandas.Series or None
        Labels of the series inside the groups; a categorical if several
        columns were given.
    series_name : str or None
        Its name.
    vc : list[VarianceComponent]
        Variance components, sorted by name.
    extra : dict[str, pandas.Series or ndarray]
        Further variables; arrays if they have two dimensions.
    index : pandas.Index
        Labels of the rows kept.
    rows : ndarray of int or None
        Positions of the rows kept in the data; None when that is all of them.
    n_dropped : int
        Rows dropped because of missing values (not by ``subset``).
    data : pandas.DataFrame
        The data as given.
    formula, re_formula, vc_formula : str, str or None, dict or None
        The formulas.
    vc_use_sparse : bool
        Whether :meth:`vc_spec` gives sparse matrices.
    """

    endog: np.ndarray
    endog_name: str
    exog: np.ndarray
    exog_names: list[str]
    model_spec: FormulaSpec
    exog_re: np.ndarray | None
    exog_re_names: list[str]
    re_spec: FormulaSpec | None
    groups_name: str
    group_values: pd.Series | None
    time: pd.Series | None
    time_name: str | None
    series: pd.Series | None
    series_name: str | None
    index: pd.Index
    rows: np.ndarray | None
    n_dropped: int
    data: pd.DataFrame
    formula: str
    re_formula: str | None
    vc_formula: dict[str, str] | None
    vc: list[VarianceComponent] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    vc_use_sparse: bool = False

    @cached_property
    def groups(self) -> np.ndarray | None:
        """Group labels as an array, (n,); None without groups."""
        return None if self.group_values is None else np.asarray(self.group_values)

    @cached_property
    def kept(self) -> np.ndarray:
        """Positions of the rows kept in the data, (n,)."""
        return np.arange(len(self.endog)) if self.rows is None else self.rows

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows of the data that are used; the data itself if that is all."""
        return self.data if self.rows is None else self.data.iloc[self.rows]

    def vc_spec(self) -> Any:
        """The components in statsmodels' form (``VCSpec``), matrices made on access."""
        return vc_spec(self.vc, self.vc_use_sparse)
