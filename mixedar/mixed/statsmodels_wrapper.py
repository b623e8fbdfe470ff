"""
The wrapper that gives results their names and index.

Libraries that work on statsmodels' results (marginaleffects is one) know them
by the module of the wrapper's class, whence the name of this one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd
from statsmodels.base.data import PandasData
from statsmodels.base.wrapper import union_dicts
from statsmodels.regression.mixed_linear_model import MixedLMResultsWrapper

from mixedar.inference.arguments import positions

__all__ = ["MixedLMARResultsWrapper"]


class MixedLMARResultsWrapper(MixedLMResultsWrapper):
    """Attaches names and the caller's index to the results' arrays."""

    _attrs: ClassVar[dict[str, str]] = {"fitted_marginal": "rows"}
    _wrap_attrs = union_dicts(MixedLMResultsWrapper._wrap_attrs, _attrs)
    # the rows of an interval depend on `cols`, which the parent's wrapper ignores
    _wrap_methods: ClassVar[dict[str, Any]] = {
        name: how
        for name, how in MixedLMResultsWrapper._wrap_methods.items()
        if name != "conf_int"
    }

    def conf_int(self, alpha: float = 0.05, cols: Any = None, **kwargs: Any) -> Any:
        """Confidence intervals by name; see :meth:`WaldInference.conf_int`."""
        results = self._results
        values = results.conf_int(alpha, **kwargs)
        keep = slice(None) if cols is None else positions(cols, results._names)
        if not isinstance(results.model.data, PandasData):
            return values[keep]
        return pd.DataFrame(values, index=results._names).iloc[keep]
