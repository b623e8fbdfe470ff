"""
Responses drawn from a fitted model, with all of its correlation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.prediction.new_rows import NewRows, fitted_rows, rows_to_simulate
from mixedar.data.formula import capture_namespace
from mixedar.diagnostics.residuals.covariance import ResidualTheory, row_sd
from mixedar.diagnostics.residuals.series import unwrapped
from mixedar.engine.residuals import correlated_residuals
from mixedar.exceptions import StructureError, UnsupportedError
from mixedar.numeric.linalg import product


def redrawn_residuals(
    fit: Any,
    theory: ResidualTheory,
    count: int,
    rng: np.random.Generator,
    kind: str,
) -> tuple[FloatArray, FloatArray]:
    """
    Residuals and fitted values of drawn responses.

    Parameters
    ----------
    fit : MixedLMARResults
    theory : ResidualTheory
        Of the fit.
    count : int
        Number of responses.
    rng : Generator
    kind : {"raw", "pearson", "normalized"}

    Returns
    -------
    residuals, fitted : ndarray, shape (n, count)
        In the caller's order.
    """
    rows = theory.rows
    q, m = theory.z.shape[1], len(rows.offsets) - 1
    white = rng.standard_normal((theory.n, count))  # L^-1 (y - X beta) / sigma
    if q:
        codes = np.repeat(np.arange(m), np.diff(rows.offsets))
        root = fit._z_map @ fit._factor
        effects = np.einsum("ab,bik->aik", root, rng.standard_normal((q, m, count)))
        for a in range(q):
            white += theory.z[:, a : a + 1] * effects[a][codes]
    left = theory.shrink(white) - product(theory.f, product(theory.f.T, white))
    fitted = np.sqrt(fit.scale) * _coloured(fit, theory, white - left)
    fitted += rows.sort(np.asarray(fit.fitted_marginal))[:, None]
    if kind != "normalized":
        left = _coloured(fit, theory, left)
    if kind == "pearson":
        left = left / rows.sort(row_sd(fit))[:, None]
    if kind == "raw":
        left = left * np.sqrt(fit.scale)
    return rows.unsort(left), rows.unsort(fitted)


def _coloured(fit: Any, theory: ResidualTheory, x: FloatArray) -> FloatArray:
    """Columns multiplied by the Cholesky factor of each series' R."""
    coloured = correlated_residuals(
        theory.to_model(x), theory.model, fit.structure, fit._residual_values
    )
    return theory.from_model(coloured)


# Numbers drawn at a time: what stays in cache, more or less.
_AT_ONCE = 2_000_000
# Up to so many random effects a column at a time; above, group by group.
_FEW_EFFECTS = 12


def simulate(
    fit: Any,
    n_sim: int = 1,
    seed: Any = None,
    newdata: Any = None,
    groups: str = "new",
) -> pd.DataFrame:
    """
    Draw responses from the fitted model.

    Fixed effects, variances and residual parameters are those of the fit.

    Parameters
    ----------
    fit : MixedLMARResults
    n_sim : int
        Number of data sets.
    seed : int, SeedSequence or Generator, optional
        The same seed gives the same draws; the first of them do not depend on
        `n_sim`.  A Generator is advanced.
    newdata : DataFrame, optional
        Rows for which to draw, for models from formulas: the columns of all
        formulas, groups, times and series.  The rows of the fit by default.
    groups : {"new", "conditional"}
        Draw the random effects of every group anew, or take those that were
        predicted from the data.  Residuals are drawn in both cases.

    Returns
    -------
    DataFrame, shape (n, n_sim)
        The index of the data, or of `newdata`; a column a data set.

    Raises
    ------
    UnsupportedError
        For options that are not known.
    NotComputedError
        If the data were removed from the fit.
    MixedARError
        For `newdata` that do not suit the fit, and with
        ``groups="conditional"`` for groups that are not in it.
    """
    fit = unwrapped(fit)
    n_sim = check_simulations(n_sim)
    if groups not in ("new", "conditional"):
        raise UnsupportedError(f"groups={groups!r}: choose 'new' or 'conditional'")
    known = groups == "conditional"
    if newdata is None:
        rows = fitted_rows(fit.fit.data)
    else:
        rows = rows_to_simulate(fit.fit, newdata, known, capture_namespace())
    rng = generator(seed)
    out = np.empty((len(rows.exog), n_sim), order="F")
    done = 0
    for block in draw_responses(fit, rows, n_sim, rng, known):
        out[:, done : done + block.shape[1]] = block
        done += block.shape[1]
    columns = pd.RangeIndex(n_sim, name="simulation")
    return pd.DataFrame(out, index=rows.index, columns=columns, copy=False)


def check_simulations(n_sim: Any) -> int:
    """
    Return `n_sim` if it is a number of data sets.

    Raises
    ------
    UnsupportedError
        If it is not a whole number of at least 1.
    """
    if isinstance(n_sim, bool) or not isinstance(n_sim, (int, np.integer)) or n_sim < 1:
        raise UnsupportedError(f"n_sim={n_sim!r} is not a positive whole number")
    return int(n_sim)


def generator(seed: Any) -> np.random.Generator:
    """
    NumPy's generator for a seed of any kind.

    Raises
    ------
    UnsupportedError
        If NumPy cannot make one of it.
    """
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"seed={seed!r}: pass a non-negative integer, a SeedSequence, a Generator, "
            "or None"
        ) from error


def draw_responses(
    fit: Any, rows: NewRows, n_sim: int, rng: np.random.Generator, known: bool
) -> Iterator[FloatArray]:
    """
    Draw data sets, some at a time.

    Parameters
    ----------
    fit : MixedLMARResults
    rows : NewRows
    n_sim : int
    rng : Generator
        Each data set takes its random effects and residuals from the stream
        before the next one does.
    known : bool
        Whether random effects are those predicted.

    Yields
    ------
    ndarray, shape (n, some)
        In the caller's order.
    """
    n = len(rows.exog)
    mean = rows.exog @ np.asarray(fit.fe_params)
    if known:
        effects = fit._effects.means[rows.codes]
        mean = mean + np.einsum("ij,ij->i", rows.exog_re, effects)
    root = np.empty((0, 0)) if known else _root(fit, rows.sizes)
    q = len(root)
    per_set = rows.n_groups * q + n
    together = max(min(_AT_ONCE // per_set, n_sim), 1)
    for first in range(0, n_sim, together):
        count = min(together, n_sim - first)
        draws = rng.standard_normal((count, per_set))
        noise = np.ascontiguousarray(draws[:, rows.n_groups * q :].T)
        out = _errors(fit, noise, rows)
        out += mean[:, None]
        if q:
            b = draws[:, : rows.n_groups * q].reshape(count, rows.n_groups, q)
            _add_effects(out, rows, b @ root.T)
        yield out


def _root(fit: Any, sizes: tuple[int, ...]) -> FloatArray:
    """A root of the covariance of all random effects of a group."""
    k = fit.k_re
    root = np.zeros((k + sum(sizes),) * 2)
    # singular covariances have this root too
    half = (fit._z_map @ fit._factor)[:k, :k]
    root[:k, :k] = np.sqrt(fit.scale) * half
    deviations = np.repeat(np.sqrt(np.asarray(fit.vcomp, dtype=np.float64)), sizes)
    diagonal = np.arange(k, len(root))
    root[diagonal, diagonal] = deviations
    return root


def _errors(fit: Any, noise: FloatArray, rows: NewRows) -> FloatArray:
    """Residuals with the fit's variance and correlation, shape (n, k)."""
    try:
        errors = correlated_residuals(
            rows.grouped.sort(noise), rows.grouped, fit.structure, fit._residual_values
        )
    except np.linalg.LinAlgError as error:
        raise StructureError(
            f"{fit.structure.label} residuals: the correlations of the fit are not "
            "possible for so many rows of a series; draw series of the data's length"
        ) from error
    return rows.grouped.unsort(np.sqrt(fit.scale) * errors)


def _add_effects(out: FloatArray, rows: NewRows, b: FloatArray) -> None:
    """Add ``z b`` of each row's group; `b` has the shape (k, groups, q)."""
    q = b.shape[2]
    if q <= _FEW_EFFECTS:
        for a in range(q):
            column = np.ascontiguousarray(b[:, :, a].T)
            out += rows.exog_re[:, a : a + 1] * column[rows.codes]
        return
    order = np.argsort(rows.codes, kind="stable")
    edges = np.searchsorted(rows.codes[order], np.arange(rows.n_groups + 1))
    for i in range(rows.n_groups):
        here = order[edges[i] : edges[i + 1]]
        out[here] += rows.exog_re[here] @ b[:, i].T
