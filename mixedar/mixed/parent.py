"""
What statsmodels' MixedLM precomputes for every group, made on demand.

The parent's constructor walks the groups in Python.  Its methods that the
subclass inherits (score and Hessian for independent residuals, penalised
fits) still find the same attributes here, built when they are first asked
for and left out of pickles.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import MixedLM

__all__ = ["LazyGroupLists"]


class LazyGroupLists(MixedLM):
    """MixedLM whose per-group lists are lazy; the constructor is not called."""

    _codes: NDArray[np.intp]

    @cached_property
    def _rows_by_group(self) -> list[NDArray[np.intp]]:
        order = np.argsort(self._codes, kind="stable")
        counts = np.bincount(self._codes, minlength=self.n_groups)
        return np.split(order, np.cumsum(counts)[:-1])

    @cached_property
    def row_indices(self) -> dict[Any, list[int]]:
        """Rows of each group in the caller's order."""
        pairs = zip(self.group_labels, self._rows_by_group, strict=True)
        return {label: rows.tolist() for label, rows in pairs}

    @cached_property
    def endog_li(self) -> Any:
        """Response of each group."""
        return self.group_list(self.endog)

    @cached_property
    def exog_li(self) -> Any:
        """Fixed-effects design of each group."""
        return self.group_list(self.exog)

    @cached_property
    def exog_re_li(self) -> Any:
        """Random-effects design of each group."""
        return self.group_list(self.exog_re)

    @cached_property
    def exog_re2_li(self) -> Any:
        """Cross-product of each group's random-effects design."""
        if self.exog_re_li is None:
            return None
        return [x.T @ x for x in self.exog_re_li]

    @cached_property
    def _aex_r(self) -> Any:
        return [self._augment_exog(i) for i in range(self.n_groups)]

    @cached_property
    def _aex_r2(self) -> Any:
        return [None if a is None else a.T @ a for a in self._aex_r]

    @cached_property
    def _lin(self) -> Any:
        return self._reparam()[0]

    @cached_property
    def _quad(self) -> Any:
        return self._reparam()[1]

    def group_list(self, array: Any) -> Any:
        """Split rows by group; None stays None."""
        if array is None:
            return None
        return [np.array(array[rows]) for rows in self._rows_by_group]

    def _without_lists(self) -> dict[str, Any]:
        """The instance's dictionary less everything that is made on demand."""
        lazy = {
            name
            for name, value in vars(LazyGroupLists).items()
            if isinstance(value, cached_property)
        }
        lazy.add("_endex_li")
        return {k: v for k, v in self.__dict__.items() if k not in lazy}
