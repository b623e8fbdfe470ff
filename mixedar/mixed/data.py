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

    @property
    def model_spec(self) -> Any:
        """Patsy's DesignInfo or formulaic's ModelSpec."""
        return self.formula_spec.engine_spec
