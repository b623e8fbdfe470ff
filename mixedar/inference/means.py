"""
Marginal means as a table, and their contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mixedar.exceptions import (
    LengthError,
    MissingDataError,
    NotComputedError,
    UnsupportedError,
)
from mixedar.inference.arguments import check_alpha
from mixedar.inference.robust import robust

__all__ = ["MarginalMeans", "studentized_range", "without_rounding"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MarginalMeans:
    """
    Population means at a grid of values, averaged over the other factors.

    Attributes
    ----------
    grid : DataFrame, shape (k, number of variables)
        One row a mean.
    matrix : ndarray, shape (k, p)
        The means are ``matrix @ fe_params``.
    by : list of str
        Variables within whose values pairs are formed.
    at : dict
        Values at which the other variables are held or averaged over.
    fit : MixedLMARResults
    df : object
        Degrees of freedom, as the fit's ``t_test`` takes them.
    cov_type : str, optional
        Robust covariance.
    """

    grid: pd.DataFrame
    matrix: FloatArray
    by: list[str]
    at: dict[str, Any]
    fit: Any
    df: Any
    cov_type: str | None

    def _table(self, matrix: FloatArray, alpha: float, name: str) -> pd.DataFrame:
        """Estimates, errors, DF, tests and intervals of contrasts."""
        if self.cov_type is not None:
            test = robust(self.fit, self.cov_type).t_test(matrix)
        else:
            test = self.fit.t_test(matrix, df=self.df)
        effect, sd = np.ravel(test.effect), np.ravel(test.sd)
        freedom = getattr(test, "df_denom", None)
        df = np.broadcast_to(
            np.inf if freedom is None else np.asarray(freedom, float), effect.shape
        )
        finite = np.isfinite(df)
        safe = np.where(finite, df, 1.0)
        t = effect / sd
        tail = np.where(finite, stats.t.sf(np.abs(t), safe), stats.norm.sf(np.abs(t)))
        q = check_alpha(alpha) / 2.0
        width = sd * np.where(finite, stats.t.isf(q, safe), stats.norm.isf(q))
        return pd.DataFrame(
            {
                name: effect,
                "se": sd,
                "df": df,
                "lower": effect - width,
                "upper": effect + width,
                "t": t,
                "p": 2.0 * tail,
            }
        )

    def to_frame(self, alpha: float = 0.05) -> pd.DataFrame:
        """
        The means.

        Parameters
        ----------
        alpha : float
            1 - coverage of the intervals.

        Returns
        -------
        DataFrame
            The grid's columns, ``mean``, ``se``, ``df``, ``lower``, ``upper``.
        """
        table = self._table(self.matrix, alpha, "mean").drop(columns=["t", "p"])
        return pd.concat([self.grid, table], axis=1)

    def pairwise(
        self, adjust: str | None = "holm", alpha: float = 0.05
    ) -> pd.DataFrame:
        """
        All differences of two means, within the values of `by`.

        Parameters
        ----------
        adjust : str, optional
            Multiplicity adjustment within each value of `by`: ``"tukey"``
            (studentized range, as emmeans), or a method of
            :func:`statsmodels.stats.multitest.multipletests`; None for none.
        alpha : float
            1 - coverage of the intervals, which are adjusted for ``"tukey"``,
            ``"bonferroni"`` and ``"sidak"``, and not for the others.

        Returns
        -------
        DataFrame
            ``contrast``, the values of `by`, ``difference``, ``se``, ``df``,
            ``lower``, ``upper``, ``t``, ``p`` and, adjusted, ``p_adjusted``.

        Raises
        ------
        NotComputedError
            If there is no pair.
        """
        names = [name for name in self.grid if name not in self.by]
        labels = [
            " ".join(str(value) for value in row)
            for row in self.grid[names].itertuples(index=False)
        ]
        strata = self._strata()
        rows, titles, blocks = [], [], []
        for members in strata:
            for i, j in combinations(members, 2):
                rows.append(self.matrix[i] - self.matrix[j])
                titles.append(f"{labels[i]} - {labels[j]}")
                blocks.append(self.grid.iloc[i][self.by].to_list())
        if not rows:
            raise NotComputedError("there is one mean only: no pair to compare")
        count = len(strata[0])
        family = count * (count - 1) // 2
        if adjust != "tukey":
            return self._contrasts(
                np.array(rows), titles, blocks, family, adjust, alpha
            )
        out = self._contrasts(np.array(rows), titles, blocks, family, None, alpha)
        width, p = studentized_range(out["t"], out["df"], count, alpha)
        out["lower"] = out["difference"] - width * out["se"]
        out["upper"] = out["difference"] + width * out["se"]
        out["p_adjusted"] = p
        return out

    def contrast(
        self,
        weights: Mapping[str, Sequence[float]] | Sequence[float],
        adjust: str | None = None,
        alpha: float = 0.05,
    ) -> pd.DataFrame:
        """
        Linear combinations of the means.

        Parameters
        ----------
        weights : mapping of name to sequence, or sequence of float
            One weight a row of `grid`.
        adjust, alpha
            As in :meth:`pairwise`.

        Returns
        -------
        DataFrame
            As :meth:`pairwise`.

        Raises
        ------
        LengthError
            If there are more or fewer weights than means.
        """
        if not isinstance(weights, Mapping):
            weights = {"contrast": weights}
        if not weights:
            raise UnsupportedError("name at least one contrast")
        try:
            table = np.array([np.asarray(row, dtype=float) for row in weights.values()])
        except (TypeError, ValueError) as error:
            raise UnsupportedError(
                "a contrast is a list of numbers, one for each mean, or a mapping of "
                f"names to such lists; this is {weights!r}"
            ) from error
        if table.ndim != 2 or table.shape[1] != len(self.matrix):
            raise LengthError(
                f"a contrast needs {len(self.matrix)} weights, one for each mean"
            )
        if not np.isfinite(table).all():
            raise MissingDataError("a weight of the contrast is missing or infinite")
        blocks: list[list[Any]] = [[] for _ in table]
        matrix = without_rounding(table @ self.matrix)
        return self._contrasts(matrix, list(weights), blocks, len(table), adjust, alpha)

    def _strata(self) -> list[list[int]]:
        if not self.by:
            return [list(range(len(self.grid)))]
        found: dict[tuple[Any, ...], list[int]] = {}
        for k, row in enumerate(self.grid[self.by].itertuples(index=False)):
            found.setdefault(tuple(row), []).append(k)
        return list(found.values())

    def _contrasts(
        self,
        matrix: FloatArray,
        titles: list[str],
        blocks: list[list[Any]],
        family: int,
        adjust: str | None,
        alpha: float,
    ) -> pd.DataFrame:
        level = check_alpha(alpha)
        if adjust == "bonferroni":
            level = level / family
        elif adjust == "sidak":
            level = 1.0 - (1.0 - level) ** (1.0 / family)
        table = self._table(without_rounding(matrix), level, "difference")
        if adjust is not None:
            adjusted = np.empty(len(table))
            p = table["p"].to_numpy()
            for first in range(0, len(table), family):
                here = slice(first, first + family)
                try:
                    adjusted[here] = multipletests(p[here], method=adjust)[1]
                except ValueError as error:
                    raise UnsupportedError(
                        f"adjust={adjust!r}: choose a method of statsmodels' "
                        "multipletests, such as 'holm', 'bonferroni' or 'fdr_bh', or "
                        "for all pairs 'tukey'"
                    ) from error
            table["p_adjusted"] = adjusted
        left = pd.DataFrame({"contrast": titles})
        if self.by and blocks[0]:
            left[self.by] = pd.DataFrame(blocks, columns=self.by)
        return pd.concat([left, table], axis=1)

    def __repr__(self) -> str:
        return self.to_frame().to_string(index=False)


def without_rounding(matrix: FloatArray) -> FloatArray:
    """
    Set to zero what is rounding beside the largest entry of its row.

    Containment asks which coefficients a contrast involves.

    Parameters
    ----------
    matrix : ndarray, shape (k, p)

    Returns
    -------
    ndarray, shape (k, p)
    """
    size = np.abs(matrix).max(axis=1, initial=0.0)[:, None]
    return np.where(np.abs(matrix) < 1e-13 * size, 0.0, matrix)


def studentized_range(
    t: Any, df: Any, count: int, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """
    Tukey's adjustment for all pairs of several means (Kramer's if unbalanced).

    Parameters
    ----------
    t, df : array_like, shape (k,)
        Statistics of the differences, and their degrees of freedom.
    count : int
        Number of means.
    alpha : float
        1 - coverage of all intervals together.

    Returns
    -------
    width : ndarray, shape (k,)
        Half widths of the intervals in standard errors.
    p : ndarray, shape (k,)

    References
    ----------
    Kramer, C. Y. (1956), Extension of multiple range tests to group means with
    unequal numbers of replications, Biometrics 12, 307-310.
    """
    t, df = np.asarray(t, dtype=float), np.asarray(df, dtype=float)
    # quantiles are found by iteration: once for each degrees of freedom
    distinct, where = np.unique(df, return_inverse=True)
    points = np.array(
        [stats.studentized_range.isf(check_alpha(alpha), count, v) for v in distinct]
    )
    p = [
        stats.studentized_range.sf(np.sqrt(2.0) * abs(x), count, v)
        for x, v in zip(t, df, strict=True)
    ]
    return points[where] / np.sqrt(2.0), np.clip(p, 0.0, 1.0)
