"""
statsmodels' data handler with a formula that survives pickling.
"""

from __future__ import annotations

from typing import Any

from statsmodels.base.data import PandasData

__all__ = ["FormulaData"]


class FormulaData(PandasData):
    """PandasData whose ``model_spec`` is built when statsmodels asks for it."""

    formula_spec: Any

    @classmethod
    def adopt(cls, data: PandasData, formula_spec: Any) -> None:
        """Turn a handler that statsmodels made into one of this class."""
        data.__class__ = cls
        data.formula_spec = formula_spec

    @property
    def model_spec(self) -> Any:
        """Patsy's DesignInfo or formulaic's ModelSpec."""
        return self.formula_spec.engine_spec

    @property
    def design_info(self) -> Any:
        """
        Builds designs of new rows: ``design_info(rows)`` is the pair (None, X).

        Older statsmodels' name for ``model_spec``.  marginaleffects calls it,
        and so gets the levels, the functions and the transforms with which the
        model was built.
        """
        return self._design

    def _design(self, rows: Any) -> tuple[None, Any]:
        if hasattr(rows, "to_pandas"):  # polars
            rows = rows.to_pandas()
        return None, self.formula_spec.matrix(rows)
