"""
What lies on the boundary of the parameter space, in words.
"""

from __future__ import annotations

import numpy as np

from mixedar.fit.fit import Fit
from mixedar.fit.parameters import zero_variances


def boundary_notes(fit: Fit) -> list[str]:
    """
    What exactly lies on the boundary.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    list of str
        Empty if nothing does.
    """
    notes = []
    if fit.singular:
        notes.append(
            "The random effects covariance is singular: " + _singular_part(fit)
        )
    if fit.residual_at_boundary:
        names = fit.structure.param_names
        values = ", ".join(
            f"{name} = {value:.6g}"
            for name, value in zip(names, fit.residual_params, strict=True)
        )
        note = f"The residual parameters lie at the end of their range: {values}"
        if "rho" in names and fit.structure.uses_time:
            note += (
                " for one unit of time (if that is much longer or shorter than "
                "the gaps, count time in another)"
            )
        notes.append(note)
    return notes


def _singular_part(fit: Fit) -> str:
    names = fit.names[fit.k_fe : fit.k_fe + fit.k_re2 + fit.k_vc]
    inner = fit.factor @ fit.factor.T
    block = inner[: fit.k_re, : fit.k_re]
    cov_re = fit.cov_re
    diagonal = np.diag(cov_re)
    rows, columns = np.tril_indices(fit.k_re)
    parts = []
    zero = np.flatnonzero(zero_variances(fit)).tolist()
    for k in zero:
        label = names[int(np.flatnonzero((rows == k) & (columns == k))[0])]
        parts.append(f"the variance {label!r} is zero")
    for k, (i, j) in enumerate(zip(rows, columns, strict=True)):
        if i == j or i in zero or j in zero:
            continue
        correlation = cov_re[i, j] / np.sqrt(diagonal[i] * diagonal[j])
        if abs(correlation) > 1.0 - 1e-6:
            parts.append(f"the correlation in {names[k]!r} is {correlation:+.0f}")
    for k, value in enumerate(fit.vcomp):
        if value < 1e-8 * fit.scale:
            parts.append(f"the variance {names[fit.k_re2 + k]!r} is zero")
    if not parts:
        rank = int((np.linalg.eigvalsh(block) > 1e-8).sum())
        parts.append(f"it has rank {rank} of {fit.k_re}")
    return ", ".join(parts)
