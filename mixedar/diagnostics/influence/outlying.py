"""
Tests whether groups lie too far out.

With the covariance parameters known, giving a group a mean of its own lowers
the weighted residual sum of squares by the group's squared Mahalanobis distance
from what the other groups predict, and the ratio to what is left is F
distributed.  It splits into the part of the group's random effects (is its
level, or its slope, like those of the others?) and the part within the group
(do its observations scatter around its own level and slope as those of others
do?).

References
----------
Cook, R. D. and Weisberg, S. (1982), Residuals and Influence in Regression,
Chapman and Hall, section 2.2.2.

Langford, I. H. and Lewis, T. (1998), Outliers in multilevel data, Journal of
the Royal Statistical Society A 161, 121-160.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mixedar._types import FloatArray
from mixedar.diagnostics.influence.coordinates import DeletionCoordinates
from mixedar.diagnostics.influence.deletion import (
    Deletions,
    GroupStatistics,
    WithoutGroup,
)
from mixedar.engine.groups import part_of, sums_by_engine
from mixedar.exceptions import UnsupportedError

# Groups with a p-value above are none of interest when taken by themselves, ...
_SUSPECT = 0.05
# ... nor are more than so many: one group among many hides little.
_MOST = 50


def outlier_tests(
    statistics: GroupStatistics, df_resid: int, index: pd.Index
) -> pd.DataFrame:
    """
    F tests of every group, the covariance parameters being those of all groups.

    Parameters
    ----------
    statistics : GroupStatistics
    df_resid : int
        Observations less fixed effects.
    index : Index
        Group labels.

    Returns
    -------
    DataFrame
        ``F``, ``df`` and ``p`` of the group as a whole, then the same with
        ``_re`` for its random effects and with ``_within`` for the rest.  NaN
        where there is nothing to test.
    """
    whole, effects = statistics.shift, statistics.shift_re
    n, q = statistics.rank, statistics.rank_re
    within = np.maximum(whole - effects, 0.0)
    parts = {
        "": (whole, n, 1.0 - whole, df_resid - n),
        "_re": (effects, q, 1.0 - effects, df_resid - q),
        "_within": (within, n - q, 1.0 - whole, df_resid - n),
    }
    columns: dict[str, Any] = {}
    for name, (share, df, rest, df_rest) in parts.items():
        there = (df > 0) & (df_rest > 0) & (rest > 0.0)
        ratio = np.full(len(share), np.nan)
        np.divide(share * df_rest, rest * np.maximum(df, 1), out=ratio, where=there)
        columns[f"F{name}"], columns[f"df{name}"] = ratio, df
        columns[f"p{name}"] = stats.f.sf(
            ratio, np.maximum(df, 1), np.maximum(df_rest, 1)
        )
    return pd.DataFrame(columns, index=index)


def external_tests(frame: pd.DataFrame, results: Any, found: Deletions) -> pd.DataFrame:
    """
    The same for groups that stand out, by covariance parameters without them.

    A group that is far out has made the variances larger, which hides it.  The
    variances of the random effects come from as many values as there are other
    groups, so the test of a group's random effects is Hotelling's.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`outlier_tests`.
    results : MixedLMARResults
    found : Deletions
        With the covariance parameters without each group.

    Returns
    -------
    DataFrame
        The rows with the smallest p-values below 0.05 (50 at most) are new.
        There ``p`` of the group as a whole is twice the smaller one of its parts.
    """
    columns = {name: frame[name].to_numpy(copy=True) for name in frame.columns}
    low = frame[["p", "p_re", "p_within"]].min(axis=1).to_numpy()
    low = np.where(np.isfinite(found.scale), low, np.nan)
    suspects = np.argsort(low, kind="stable")[:_MOST]
    suspects = suspects[low[suspects] < _SUSPECT]
    if len(suspects) == 0:
        return frame
    at = DeletionCoordinates(results.fit)
    df_groups = results.n_groups - 1 - _constant_columns(results)
    df_resid = results.nobs - results.k_fe
    for i in suspects:
        try:
            whole, effects = _distances(at, int(i), found.theta[i])
        except np.linalg.LinAlgError:
            continue
        n, q = int(frame["df"].iloc[i]), int(frame["df_re"].iloc[i])
        nu = max(df_groups - q + 1, 1)
        parts = {
            "_re": (effects, q, nu, nu / max(df_groups, nu)),
            "_within": (max(whole - effects, 0.0), n - q, df_resid - n, 1.0),
        }
        smallest = 1.0
        for name, (distance, df, df_rest, factor) in parts.items():
            if df > 0 and df_rest > 0:
                ratio = distance / df * factor
                p = float(stats.f.sf(ratio, df, df_rest))
                columns[f"F{name}"][i], columns[f"p{name}"][i] = ratio, p
                smallest = min(smallest, p)
        columns["F"][i], columns["p"][i] = whole / n, min(1.0, 2.0 * smallest)
    return pd.DataFrame(columns, index=frame.index)


def with_adjusted(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    """
    Add p-values adjusted for the number of groups.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`outlier_tests`.
    method : str
        Of :func:`statsmodels.stats.multitest.multipletests`.

    Returns
    -------
    DataFrame
        With ``p_adj``, ``p_adj_re`` and ``p_adj_within``.

    Raises
    ------
    UnsupportedError
        For an unknown method.
    """
    out = {}
    for column in frame.columns:
        out[column] = frame[column]
        if column.startswith("p"):
            adjusted = _adjusted(frame[column].to_numpy(), method)
            out[f"p_adj{column[1:]}"] = pd.Series(adjusted, frame.index)
    return pd.DataFrame(out)


def _adjusted(p: FloatArray, method: str) -> FloatArray:
    """P-values adjusted over those that there are."""
    out = np.full(len(p), np.nan)
    there = ~np.isnan(p)
    values = p[there]
    if method == "holm":  # the default; multipletests takes its time
        order = np.argsort(values, kind="stable")
        raised = values[order] * np.arange(len(values), 0, -1)
        adjusted = np.empty(len(values))
        adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
        out[there] = adjusted
        return out
    try:
        adjusted = multipletests(values if there.any() else [1.0], method=method)[1]
    except (KeyError, ValueError) as error:
        raise UnsupportedError(
            f"method={method!r} is not known: choose 'holm', 'bonferroni', 'fdr_bh' or "
            "another of statsmodels' multipletests"
        ) from error
    if there.any():
        out[there] = adjusted
    return out


def _constant_columns(results: Any) -> int:
    """Columns of the fixed-effects design that do not vary within any group."""
    model = results.model
    x = model._grouped.sort(model.exog)
    starts = model._grouped.offsets[:-1]
    spread = np.maximum.reduceat(x, starts) - np.minimum.reduceat(x, starts)
    return int((spread == 0.0).all(axis=0).sum())


def _distances(
    at: DeletionCoordinates, group: int, theta: FloatArray
) -> tuple[float, float]:
    """
    Squared distances of a group from what the others predict.

    ``r'(H + X C X')^-1 r / s2`` with the residuals ``r``, their variance and
    ``C`` all without the group; of it, the part along the group's ``Z``.
    """
    problem, p = at.problem, len(at.problem.w_map) - 1
    others = WithoutGroup(problem, at.rows, group).profile_at(theta, derivatives=False)
    own = sums_by_engine(
        part_of(at.rows, slice(group, group + 1)),
        problem.structure,
        problem.covariance,
        problem.factor(theta),
        problem.split(theta)[1],
    )
    s, zz, zw = own.s[..., 0], own.zz[..., 0], own.zw[..., 0]
    e = np.append(-others.beta, 1.0)
    both = np.linalg.inv(others.sxx_inverse) + s[:p, :p]
    across = s[:p] @ e
    whole = float(e @ s @ e - across @ np.linalg.solve(both, across))
    turned = np.linalg.solve(both, zw[:, :p].T).T
    score = zw @ e - turned @ across
    precision = zz - turned @ zw[:, :p].T
    values, vectors = np.linalg.eigh(precision) if len(zz) else (np.zeros(0), zz)
    there = values > 1e-9 * max(float(np.trace(zz)), 1e-300)
    parts = (vectors.T @ score)[there] ** 2 / values[there]
    return whole / others.scale, float(parts.sum()) / others.scale
