"""
Predicted random effects of a fitted model, as arrays.

What this package knows of the inside of a fit stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar.effects import predict_effects

__all__ = [
    "GroupTerms",
    "codes_of",
    "conditional_variances",
    "design_of",
    "effect_layout",
    "group_terms",
    "marginal_variances",
    "means_of",
    "parts_of",
    "roots_of",
    "sensitivity",
]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class GroupTerms:
    """
    The random effects that are one number a group, and the fixed ones beside them.

    Attributes
    ----------
    columns : ndarray of int, shape (k,)
        Their columns in the random-effects design.
    names : list of str, length k
        The name of the fixed effect of the same column, else a name of their own.
    fixed : ndarray of int, shape (k,)
        Number of that fixed effect; -1 where there is none.
    """

    columns: IntArray
    names: list[str]
    fixed: IntArray


def means_of(fit: Any) -> FloatArray:
    """Predicted random effects of a fit, shape (m, q)."""
    return np.asarray(fit._effects.means)


def roots_of(fit: Any) -> FloatArray:
    """``C``, shape (q, q, m), with conditional covariances ``scale * C'C``."""
    return np.asarray(fit._effects.roots)


def design_of(fit: Any) -> FloatArray:
    """Columns of all random effects in the caller's row order, shape (n, q)."""
    return np.asarray(fit.model._random_design())


def codes_of(fit: Any) -> IntArray:
    """Number of the group of each row, shape (n,)."""
    return np.asarray(fit.model._codes)


def parts_of(fit: Any) -> tuple[list[str], list[int]]:
    """Random effects and variance components by name, and their columns."""
    names = [*list(fit.model.data.exog_re_names)[: fit.k_re], *fit.model.exog_vc.names]
    return names, [1] * fit.k_re + list(fit.model._vc.sizes)


def conditional_variances(fit: Any, beta: str) -> FloatArray:
    """
    Variances of the errors of prediction, covariance parameters taken as known.

    Parameters
    ----------
    fit : MixedLMARResults
    beta : {"known", "estimated"}
        Given the fixed effects, or with the uncertainty of their estimates:
        ``C + A cov(beta) A'``, where ``-A`` is how predictions change with beta.

    Returns
    -------
    ndarray, shape (m, q)
    """
    variances = np.asarray(fit.scale * (roots_of(fit) ** 2).sum(axis=0).T)
    if beta == "estimated":
        p = fit.k_fe
        change = sensitivity(fit)
        cov = np.asarray(fit.cov_params())[:p, :p]
        variances = variances + _quadratic(change, cov)
    return variances


def sensitivity(fit: Any) -> FloatArray:
    """
    What the random effects would be predicted as if the data were the design.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    ndarray, shape (m, q, p)
        ``A_i = Psi Z_i' V_i^-1 X_i``: predictions are ``A_i`` applied to
        ``y_i`` instead of ``X_i``, less ``A_i beta``.
    """
    fit._effects  # noqa: B018  says so if the data are gone
    model = fit.model
    grouped = model._grouped
    design = grouped.sort(design_of(fit))
    exog = grouped.sort(model.exog)
    parts = [
        predict_effects(
            design,
            np.ascontiguousarray(exog[:, j]),
            grouped,
            fit.structure,
            fit._u,
            fit._z_map,
            fit._factor,
        ).means
        for j in range(exog.shape[1])
    ]
    return np.stack(parts, axis=-1)


def marginal_variances(fit: Any) -> FloatArray:
    """Variances of the random effects in the model, one a column, shape (q,)."""
    widths = parts_of(fit)[1][fit.k_re :]
    parts = [np.diag(np.atleast_2d(fit.cov_re))[: fit.k_re]]
    parts += [
        np.full(width, value) for width, value in zip(widths, fit.vcomp, strict=True)
    ]
    return np.concatenate(parts).astype(np.float64)


def group_terms(fit: Any) -> GroupTerms:
    """
    Match random effects of groups with fixed effects.

    They match if their columns are equal, whatever they are called.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    GroupTerms
        The correlated random effects, and variance components that have one
        column (``"0 + time"``); levels inside groups are not among them.
    """
    means_of(fit)  # says so if the data are gone
    model = fit.model
    columns, own = list(range(fit.k_re)), list(model.data.exog_re_names)[: fit.k_re]
    spec = getattr(model, "re_spec", None)
    if spec is not None:
        own = list(spec.column_names)
    first = fit.k_re
    for name, width in zip(model.exog_vc.names, model._vc.sizes, strict=True):
        if width == 1:
            columns.append(first)
            own.append(name)
        first += width
    design, exog = design_of(fit), model.exog
    known = list(model.exog_names)
    names, fixed = [], []
    for k, name in zip(columns, own, strict=True):
        column = design[:, k]
        same = [j for j in range(len(known)) if np.array_equal(column, exog[:, j])]
        if same:
            names.append(known[same[0]])
        else:
            alone = "Intercept" if (column == 1.0).all() else name
            names.append(f"{alone} (random)" if alone in known else alone)
        fixed.append(same[0] if same else -1)
    return GroupTerms(
        np.asarray(columns, dtype=np.intp), names, np.asarray(fixed, dtype=np.intp)
    )


def effect_layout(fit: Any) -> tuple[IntArray, IntArray, IntArray, list[str]]:
    """
    Which random effects each group has.

    Parameters
    ----------
    fit : MixedLMARResults

    Returns
    -------
    groups, columns : ndarray of int, shape (K,)
        Number of the group and column of the design of each effect, group by group.
    codes : ndarray of int, shape (K,)
        Number of its name.
    names : list of str
        Names of the random effects; a level of a component is called
        ``component[level]``.
    """
    model, m = fit.model, fit.n_groups
    names = list(model.data.exog_re_names)[: fit.k_re]
    groups = [np.repeat(np.arange(m), fit.k_re)]
    columns = [np.tile(np.arange(fit.k_re), m)]
    codes = [columns[0]]
    numbers: dict[str, int] = {name: k for k, name in enumerate(names)}
    first = fit.k_re
    for j, name in enumerate(model.exog_vc.names):
        labels = [fit._component_names(j, i) for i in range(m)]
        counts = np.array([len(each) for each in labels])
        starts = np.cumsum(counts) - counts
        groups.append(np.repeat(np.arange(m), counts))
        columns.append(first + np.arange(counts.sum()) - np.repeat(starts, counts))
        texts = (f"{name}[{label}]" for each in labels for label in each)
        codes.append(np.array([numbers.setdefault(t, len(numbers)) for t in texts]))
        first += model._vc.sizes[j]
    group = np.concatenate(groups)
    order = np.argsort(group, kind="stable")
    column, code = np.concatenate(columns)[order], np.concatenate(codes)[order]
    return group[order], column, code.astype(np.intp), list(numbers)


def _quadratic(a: FloatArray, cov: FloatArray) -> FloatArray:
    """Diagonals of ``a_i cov a_i'`` for a of shape (m, q, p), shape (m, q)."""
    return np.asarray(np.einsum("mqp,mqp->mq", a @ cov, a))
