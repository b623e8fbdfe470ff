"""
Does a coefficient vary between groups that the model takes to be the same?

If the coefficient of a covariate ``w`` varied, the covariance of a group would
have the term ``tau w w'``.  The model is fitted with it; or, where that would
take long, the derivative by ``tau`` at zero is tested.  That score is a quadratic
form in the residuals, freed of what the estimated parameters explain.  Such forms
are skewed with few groups, so they are compared with the chi-squared distribution
of the same mean and variance.

References
----------
Stram, D. O. and Lee, J. W. (1994), Variance components testing in the
longitudinal mixed effects model, Biometrics 50, 1171-1177.

Verbeke, G. and Molenberghs, G. (2003), The use of score tests for inference on
variance components, Biometrics 59, 254-262.

Lin, X. (1997), Variance component testing in generalised linear models with
random effects, Biometrika 84, 309-326.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mixedar._types import FloatArray, IntArray
from mixedar.diagnostics.checkup.search import gain_of_effect
from mixedar.diagnostics.residuals.alternatives import Direction
from mixedar.diagnostics.residuals.covariance import cluster_products
from mixedar.diagnostics.residuals.score import ScoreFrame, score_frame
from mixedar.diagnostics.residuals.series import Rows, SeriesRows, rows_of
from mixedar.engine.effects import whiten_series

# Covariates that are looked at.
_MOST = 8
# Groups in which a covariate has to vary.
_GROUPS = 3


@dataclass(frozen=True)
class EffectDirection(Direction):
    """
    ``w w'`` in every group, for a whitened column ``w``.

    Attributes
    ----------
    column : ndarray, shape (n,)
        In sorted order.
    offsets : ndarray of int, shape (m + 1,)
    """

    column: FloatArray
    offsets: IntArray

    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""
        inner = cluster_products(self.column[:, None], x, self.offsets)[:, 0]
        return self.column[:, None] * np.repeat(inner, np.diff(self.offsets), axis=0)

    def diagonal(self, n: int) -> FloatArray:
        """``A_tt``, shape (n,)."""
        return self.column**2

    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """``A_ts`` of pairs of rows of a series."""
        return self.column[later] * self.column[earlier]

    def inner(self, other: Direction) -> float:
        """``tr(A B)``."""
        return float(self.column @ other.apply(self.column[:, None])[:, 0])


def missed_effects(fit: Any) -> pd.DataFrame:
    """
    Tests of coefficients that might vary between groups.

    Parameters
    ----------
    fit : MixedLMARResults
        With its data.

    Returns
    -------
    DataFrame
        A row a covariate that varies within groups and has no random effect:
        ``sd``, the standard deviation that its coefficient might have; ``gain``,
        of the log-likelihood; ``p``; ``test``, ``"likelihood ratio"``, or for
        large data ``"score"`` with the `sd` and `gain` of one scoring step;
        ``size``, by how much that varies the response, in residual standard
        deviations.  Empty if there is none.
    """
    rows = rows_of(fit)
    out: dict[str, tuple[float, float, float, str, float]] = {}
    frame: ScoreFrame | None = None
    for name, column in _candidates(fit, rows).items():
        # independent residuals are sorted by time here, and by row there
        exact = gain_of_effect(fit, fit.model._grouped.sort(rows.unsort(column)))
        unit = float(np.sqrt((column**2).mean() / fit.scale))
        if exact is not None:
            size = exact.value * unit
            out[name] = exact.value, exact.llf, exact.p, "likelihood ratio", size
            continue
        frame = frame or score_frame(fit)
        found = _by_score(fit, frame, column)
        if found is not None:
            out[name] = (*found, "score", found[0] * unit)
    return pd.DataFrame.from_dict(
        out, orient="index", columns=["sd", "gain", "p", "test", "size"]
    )


def score_test(fit: Any, column: FloatArray) -> tuple[float, float, float] | None:
    """
    Score test of a coefficient that might vary.

    Parameters
    ----------
    fit : MixedLMARResults
    column : ndarray, shape (n,)
        In sorted order.

    Returns
    -------
    tuple of float, or None
        Standard deviation and gain in log-likelihood from one scoring step, and
        p-value; None if the estimated parameters explain all of it.
    """
    return _by_score(fit, score_frame(fit), column)


def _by_score(
    fit: Any, frame: ScoreFrame, column: FloatArray
) -> tuple[float, float, float] | None:
    rows, factors = frame.theory.rows, frame.theory.factors
    white = whiten_series(column, rows.grouped, fit.structure, fit._residual_values)
    direction = EffectDirection(white, rows.offsets)
    efficient = frame.efficient([direction], joint=False)
    if not efficient.tested[0]:
        return None
    score, variance = float(efficient.score[0]), float(efficient.variance[0, 0])
    # the mean of u'Au, which is twice the score above it
    mean = float(white @ white - (factors * direction.apply(factors)).sum())
    df = 0.5 * mean**2 / variance
    p = float(stats.chi2.sf(df * (1.0 + 2.0 * score / mean), df))
    up = max(score, 0.0)
    return float(np.sqrt(up / variance * fit.scale)), 0.5 * up**2 / variance, p


def _candidates(fit: Any, rows: SeriesRows) -> dict[str, FloatArray]:
    """
    Columns whose coefficients might vary, in sorted order.

    Of each, what its group's level and random effects do not span already.
    """
    model, n = fit.model, fit.nobs
    ones = np.ones((n, 1))
    effects = ones[:, :0] if fit.k_re == 0 else rows.sort(model.exog_re)
    out: dict[str, FloatArray] = {}
    if len(rows.offsets) - 1 < _GROUPS:
        return out
    if not _is_spanned(ones[:, 0], effects, rows.offsets):
        out["a random intercept"] = ones[:, 0]
    columns: dict[str, FloatArray] = {}
    if model.time is not None and model.series is None:
        columns["time"] = rows.time
    x = rows.sort(model.exog)
    columns |= {f"{name!r}": x[:, k] for k, name in enumerate(model.exog_names)}
    basis = np.concatenate([ones, effects], axis=1)
    for name, column in columns.items():
        if len(out) >= _MOST:
            break
        left = _beyond(column, basis, rows.offsets)
        squares = np.add.reduceat(left**2, rows.offsets[:-1])
        size = float(column @ column)
        if (squares > 1e-10 * size / n).sum() < _GROUPS or squares.sum() < 1e-8 * size:
            continue
        if any(_same(left, other) for other in out.values()):
            continue
        out[f"a random slope of {name}"] = left
    return out


def _beyond(column: FloatArray, basis: FloatArray, offsets: IntArray) -> FloatArray:
    """Residuals of a column on others, within every group."""
    gram = cluster_products(basis, basis, offsets)
    cross = cluster_products(basis, column[:, None], offsets)
    scale = np.sqrt(np.maximum((basis**2).mean(axis=0), 1e-300))
    inverse = np.linalg.pinv(gram / np.outer(scale, scale), 1e-10, hermitian=True)
    weights = (inverse @ (cross / scale[:, None]))[:, :, 0] / scale
    codes = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    return column - np.einsum("ij,ij->i", basis, weights[codes])


def _is_spanned(column: FloatArray, basis: FloatArray, offsets: IntArray) -> bool:
    if basis.shape[1] == 0:
        return False
    left = _beyond(column, basis, offsets)
    return bool(left @ left < 1e-8 * (column @ column))


def _same(a: FloatArray, b: FloatArray) -> bool:
    """Whether two columns are multiples of one another."""
    return bool((a @ b) ** 2 > (1.0 - 1e-8) * (a @ a) * (b @ b))
