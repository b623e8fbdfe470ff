"""
Several fits in one table.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mixedar.compare.cells import ModelsTable, legend, thresholds
from mixedar.compare.read import ACCEPTED, read
from mixedar.compare.record import Component, FitRecord
from mixedar.compare.sample import comparable, sample_classes
from mixedar.exceptions import EmptyDataError, UnknownColumnError, UnsupportedError
from mixedar.panel.checks import listing
from mixedar.summary import Format, ResultsSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Comparison", "compare"]

INTERCEPTS = ("Intercept", "const", "(Intercept)")


class Comparison(ResultsSummary):
    """
    Several fits side by side; made by :func:`compare`.

    Printing, ``as_text``, ``as_html`` and ``as_latex`` are those of
    :class:`mixedar.summary.ResultsSummary`.

    Attributes
    ----------
    coefficients : DataFrame, shape (terms, 7 models)
        Columns by model and ``estimate, std_error, statistic, df, p_value,
        conf_low, conf_high``.
    components : DataFrame, shape (components, models)
        Standard deviations and correlations, or variances and covariances, of
        random effects and residuals.
    statistics : DataFrame, shape (statistics, models)
        Numbers of observations and groups, theta, R squared, and
        log-likelihood, AIC and BIC of the fits in which they may be compared.
    methods : DataFrame, shape (2, models)
        Estimator, and kind of the standard errors.
    notes : list of str
    """

    def __init__(
        self,
        records: Mapping[str, FitRecord],
        frames: Mapping[str, pd.DataFrame],
        notes: Sequence[str],
        levels: Sequence[float],
        formats: Mapping[str, Format],
        title: str | None,
    ) -> None:
        self.coefficients = frames["coefficients"]
        self.components = frames["components"]
        self.statistics = frames["statistics"]
        self.methods = frames["methods"]
        self.notes = list(notes)
        self._records = dict(records)
        pvalues = self.coefficients.xs("p_value", axis=1, level=1)
        table = ModelsTable(self._stacked(), self.methods, pvalues, levels, formats)
        super().__init__(title=title, tables=[table], notes=self.notes)

    def _stacked(self) -> pd.DataFrame:
        """All numbers that are printed, one column a model."""
        parts = {}
        columns = list(self._records)
        long = self.coefficients.stack(level=1)
        chosen = long.index.get_level_values(1).isin(["estimate", "std_error"])
        blocks = []
        for term in self.coefficients.index:
            for value in ("estimate", "std_error"):
                blocks.append(("coefficients", term, value))
        del parts, chosen
        rows = [
            [self.coefficients.loc[term, (name, value)] for name in columns]
            for _, term, value in blocks
        ]
        for part in ("components", "statistics"):
            frame = getattr(self, part)
            blocks += [(part, term, "value") for term in frame.index]
            rows += frame.to_numpy().tolist()
        index = pd.MultiIndex.from_tuples(blocks, names=["part", "term", "value"])
        return pd.DataFrame(rows, index=index, columns=columns, dtype=float)
