"""
What the package maketables asks of results, its plug-in format.

It reads fits as it reads those of statsmodels: by ``params``, ``bse``, ``pvalues`` and
``conf_int``.  Here is the format for what has other numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import pandas as pd

from mixedar.compare.record import FitRecord

# Its names of columns of coefficients, and ours.
_COLUMNS = {"b": "estimate", "se": "std_error", "t": "statistic", "p": "p_value"}
_ENDS = {"l": "conf_low", "u": "conf_high"}


class InMakeTables(ABC):
    """Results that ``maketables.ETable`` takes."""

    @property
    @abstractmethod
    def record(self) -> FitRecord:
        """Their numbers."""

    @property
    def __maketables_coef_table__(self) -> pd.DataFrame:
        frames = {
            level: self.record.coefficients(1.0 - level / 100) for level in (95, 90)
        }
        columns = {name: frames[95][own] for name, own in _COLUMNS.items()}
        for level, frame in frames.items():
            columns |= {f"ci{level}{end}": frame[own] for end, own in _ENDS.items()}
        return pd.DataFrame(columns).rename_axis("Coefficient")

    @property
    def __maketables_depvar__(self) -> str:
        return self.record.sample.name

    @property
    def __maketables_vcov_info__(self) -> dict[str, Any]:
        return {"vcov_type": self.record.cov_type, "clustervar": None}

    @property
    def __maketables_default_stat_keys__(self) -> list[str]:
        return ["N", "groups", "estimator"]

    @property
    def __maketables_stat_labels__(self) -> dict[str, str]:
        return {"groups": "Groups", "estimator": "Estimator"}

    def __maketables_stat__(self, key: str) -> Any:
        record = self.record
        known = {
            "N": record.nobs,
            "groups": record.n_groups,
            "estimator": record.estimator,
            "se_type": record.cov_type,
        }
        return known.get(key)
