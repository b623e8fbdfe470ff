"""
Second derivatives of the residual correlation between precision matrices.

Kenward and Roger's adjustment needs the sandwiches ``H^-1 Rdot H^-1 Rdot H^-1``
and ``H^-1 Rddot H^-1`` apart, where the likelihood needs only their
combination ``d2 H^-1``.  One of them is enough.  With ``R^-1 = B'B``, ``B``
the whitening matrix (lower bidiagonal for a Markov structure) and
``E = Bdot B^-1``,

    d R^-1          = B'(E + E') B,
    R^-1 Rddot R^-1 = 2 B'(E + E')(E + E') B - d2 R^-1.

``E B x = Bdot x`` looks one row back, and ``E' B x`` is one backward
recursion, so a column costs as many operations as it has rows: nothing of
size n_i x n_i is formed, however long the series.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from mixedar.compress import ClusterRows
from mixedar.covariance import RandomCovariance
from mixedar.linalg import (
    apply,
    bmm,
    identity_plus,
    inverse_cholesky,
    multiply_right,
)
from mixedar.moments import moment_blocks
from mixedar.moments.covariance_block import PatternCurvature, covariance_blocks
from mixedar.moments.products import previous, products
from mixedar.residual import MarkovStructure, ResidualStructure

__all__ = ["ResidualCurvature", "residual_curvature"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class ResidualCurvature:
    """
    What the second derivative of ``R`` contributes, by the unconstrained parameter.

    Attributes
    ----------
    sandwich : ndarray, shape (k, k, p + 1, p + 1)
        ``sum_i W_i' H_i^-1 Rddot_i H_i^-1 W_i``.
    trace : ndarray, shape (k, k)
        ``sum_i tr(H_i^-1 Rddot_i)``.
    """

    sandwich: FloatArray
    trace: FloatArray


def residual_curvature(
    rows: ClusterRows,
    structure: ResidualStructure,
    covariance: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
) -> ResidualCurvature:
    """
    Sandwiches and traces of second derivatives of the residual correlation.

    Parameters
    ----------
    rows : ClusterRows
        Rows in the coordinates of `factor`.
    structure : ResidualStructure
        Bound to the data.
    covariance : RandomCovariance
    factor : ndarray, shape (q, q)
        ``Lambda`` with ``Psi = Lambda Lambda'``; it may be singular.
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters.

    Returns
    -------
    ResidualCurvature
    """
    if not isinstance(structure, MarkovStructure):
        inner = slice(covariance.k_cov, None)
        found = [
            PatternCurvature(block, covariance, factor, u).bends()
            for block in covariance_blocks(rows, structure)
        ]
        return ResidualCurvature(
            np.sum([sandwiches[inner, inner] for sandwiches, _ in found], axis=0),
            np.sum([traces[inner, inner] for _, traces in found], axis=0),
        )
    images, squares = _symmetrised_slopes(rows, structure, u)
    q, width = rows.z.shape[1], rows.w.shape[1]
    sandwich, trace = np.zeros((width, width)), 0.0
    sizes = np.diff(rows.offsets)
    row_weights = np.repeat(rows.weights, sizes)
    trace += float(row_weights @ squares)
    for block in moment_blocks(rows, structure):
        moments = block.at(u, derivatives=True)
        counts = sizes[block.clusters]
        ends = np.cumsum(counts)
        if len(block.clusters) == rows.n_clusters:
            here = images
        else:
            index = np.arange(ends[-1]) + np.repeat(
                rows.offsets[block.clusters] - ends + counts, counts
            )
            here = images[index]
        z, w = here[:, :q], here[:, q:]
        zt, ww = products(z, z, w, w, ends - counts)
        zz = 2.0 * zt[:q] - moments.zz[2]
        zw = 2.0 * zt[q:] - moments.zw[2]
        sandwich += 2.0 * ww - moments.ww[2]
        trace += float(moments.logdet[2])
        if q == 0:
            continue
        # H^-1 = R^-1 - R^-1 Z K Z' R^-1 with K = Lambda A^-1 Lambda'
        inverse_factor, _ = inverse_cholesky(identity_plus(factor, moments.zz[0]))
        root = multiply_right(inverse_factor, factor.T)
        across = root.transpose(1, 0, 2)
        effect = apply(across, apply(root, moments.zw[0]))
        flat = effect.reshape(width, -1)
        cross = flat @ zw.reshape(width, -1).T
        sandwich += flat @ apply(zz, effect).reshape(width, -1).T - cross - cross.T
        trace -= float(np.einsum("abm,bam,m->", bmm(across, root), zz, block.weights))
    sandwich = (sandwich + sandwich.T) / 2.0
    return ResidualCurvature(sandwich[None, None], np.array([[trace]]))


def _symmetrised_slopes(
    rows: ClusterRows, structure: MarkovStructure, u: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """
    ``(E + E') B [Z W]``, and each row's part of ``tr(R^-1 Rdot R^-1 Rdot)``.

    With ``s^2 = 1 - phi^2``: ``B x = (x_t - phi x_{t-1}) / s``,
    ``E_tt = phi phi' / s^2``, and below the diagonal ``E`` is ``-phi' / s``
    times the correlation of an earlier innovation with ``x_{t-1}``; squares of
    those sum to one.
    """
    inside = rows.gaps > 0.0
    n = len(rows.gaps)
    phi, slope, root = np.zeros(n), np.zeros(n), np.ones(n)
    distinct, which = np.unique(rows.gaps[inside], return_inverse=True)
    step = structure.step(distinct, u)
    phi[inside], slope[inside] = step.phi[which], step.d1[which]
    root[inside] = np.sqrt(step.complement)[which]
    columns = np.concatenate([rows.z, rows.w], axis=1)
    before = previous(columns, inside)
    white = (columns - phi[:, None] * before) / root[:, None]
    diagonal = phi * slope / root**2
    below = slope / root
    shifted = np.zeros_like(white)
    shifted[:-1] = below[1:, None] * white[1:]
    bands = np.zeros((2, n))
    bands[0, 1:] = -(phi / root)[1:]
    bands[1] = 1.0 / root
    backward = solve_banded((0, 1), bands, shifted, check_finite=False)
    images = 2.0 * diagonal[:, None] * white - below[:, None] * before - backward
    return images, 4.0 * diagonal**2 + 2.0 * below**2
