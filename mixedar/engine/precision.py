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

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from mixedar._types import FloatArray
from mixedar.engine.blocks import moment_blocks
from mixedar.engine.blocks.base import ArrayCurvature, ClusterSums
from mixedar.engine.blocks.dense import PatternCurvature, covariance_blocks
from mixedar.engine.blocks.markov import previous, products
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.level import Together, eliminate
from mixedar.engine.likelihood import cluster_sums
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.residuals import markov_of
from mixedar.numeric.autodiff import Jet, inverse_derivatives
from mixedar.numeric.linalg import trace_product
from mixedar.residual import MarkovStructure, ResidualStructure


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
    markov = markov_of(structure)
    if markov is None:
        inner = slice(covariance.k_cov, None)
        found = [
            PatternCurvature(block, covariance, factor, u).bends()
            for block in covariance_blocks(rows, structure)
        ]
        return ResidualCurvature(
            np.sum([sandwiches[inner, inner] for sandwiches, _ in found], axis=0),
            np.sum([traces[inner, inner] for _, traces in found], axis=0),
        )
    images, squares = _symmetrised_slopes(rows, markov, u)
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
        level = eliminate(moments.zz[0], moments.zw[0], factor)
        over = Together(block.weights)
        sandwich -= level.taken(zz, zw, over)
        trace -= float(over.total(trace_product(level.shrink, zz)))
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


@dataclass(frozen=True)
class PrecisionDerivatives:
    """
    Kenward and Roger's ingredients, and the likelihood's derivatives.

    Attributes
    ----------
    to_inner : ndarray, shape (p, p)
        A contrast on the user's scale times this is one on the internal scale.
    scale : float
        Residual variance on the user's scale.
    phi : ndarray, shape (p, p)
        ``Phi = (X'V^-1 X)^-1``.
    p : ndarray, shape (k, p, p)
        ``P_i = -X'V^-1 V_i V^-1 X``.
    q : ndarray, shape (k, k, p, p)
        ``Q_ij = X'V^-1 V_i V^-1 V_j V^-1 X``, the mean of it and its transpose.
    r : ndarray, shape (k, k, p, p)
        ``R_ij = X'V^-1 V_ij V^-1 X``: zero but for pairs with ``rho``.
    traces : ndarray, shape (k, k)
        ``tr(V^-1 V_i V^-1 V_j)``.
    observed : ndarray, shape (k, k)
        Minus the second derivatives of the (restricted) log-likelihood.
    expected : ndarray, shape (k, k)
        Their expectation.
    jacobian : ndarray, shape (k, k_free + k_residual + 1)
        Derivative of ``theta`` by the free entries of the covariance's
        triangular factor, the unconstrained residual parameter and
        ``log(sigma2)``: coordinates in which a singular covariance is an
        ordinary point.
    curvature : ndarray, shape (k_free + k_residual + 1,) squared
        Second derivatives of ``theta`` by those, weighted by minus the
        gradient of the log-likelihood.
    estimated : ndarray of bool, shape (k,)
        Which parameters are not held.
    unrestricted : bool
        Whether those vary freely: what is held are covariances or variances
        of zero.
    """

    to_inner: FloatArray
    scale: float
    phi: FloatArray
    p: FloatArray
    q: FloatArray
    r: FloatArray
    traces: FloatArray
    observed: FloatArray
    expected: FloatArray
    jacobian: FloatArray
    curvature: FloatArray
    estimated: NDArray[np.bool_]
    unrestricted: bool

    def contrasts(self, matrix: FloatArray) -> FloatArray:
        """Contrasts of the internal fixed effects, shape (c, p)."""
        return np.asarray(matrix @ self.to_inner)

    def to_user(self, cov: FloatArray) -> FloatArray:
        """A covariance of the internal fixed effects on the user's scale."""
        out = self.scale * self.to_inner @ cov @ self.to_inner.T
        return np.asarray((out + out.T) / 2.0)


def precision_derivatives(
    rows: ClusterRows,
    n: int,
    structure: ResidualStructure,
    layout: RandomCovariance,
    factor: FloatArray,
    u: FloatArray,
    *,
    reml: bool,
    hold_rho: bool = False,
) -> PrecisionDerivatives:
    """
    Collect the derivatives at the estimate of a fit.

    Parameters
    ----------
    rows : ClusterRows
        Compressed rows on the user's scale.
    n : int
        Number of observations.
    structure : ResidualStructure
        Bound to the data.
    layout : RandomCovariance
        Its ``fixed`` says which entries are held (their values are read off
        `factor`).
    factor : ndarray, shape (q, q)
        ``Lambda`` in internal coordinates.
    u : ndarray, shape (k_residual,)
        Unconstrained residual parameters.
    reml : bool
    hold_rho : bool
        Take the residual parameter as known.

    Returns
    -------
    PrecisionDerivatives

    Raises
    ------
    UnsupportedError
        For residual structures whose second derivatives are not known.
    numpy.linalg.LinAlgError
        If the precision is singular to rounding.
    """
    held = ~layout.is_free
    mask = np.where(held, 0.0, np.nan)
    problem = LikelihoodProblem(
        rows, n, structure, replace(layout, fixed=mask), reml=reml
    )
    count = len(layout.tril[0])
    firsts = layout.k_re + np.cumsum((0, *layout.vc_sizes))[:-1]
    lam = np.concatenate([factor[layout.tril], np.diagonal(factor)[firsts.astype(int)]])
    covariance = replace(problem.covariance, fixed=np.where(held, lam, np.nan))
    entries = covariance.jet(lam[~held])
    values = entries.value
    sums = cluster_sums(problem.blocks, covariance, factor, u, derivatives=True)
    if len(u) and not hold_rho:
        inner = rows.transformed(problem.z_map, problem.w_map)
        bend = residual_curvature(inner, structure, covariance, factor, u)
        chain = _Chain(values, _free_part(structure.natural(u)))
    else:
        sums, bend = _without_residual(sums, len(values)), None
        chain = _Chain(values, None)
    parts = chain.differentiate(sums, bend, n)

    w_map = problem.w_map
    p = len(w_map) - 1
    root = np.linalg.cholesky(sums.s)
    inverse_root = np.linalg.inv(root[:p, :p])
    phi = inverse_root.T @ inverse_root
    e = np.append(-phi @ sums.s[:p, p], 1.0)
    scale = float(root[p, p] ** 2) / (n - p if reml else n)
    gradient, observed = _observed(parts, phi, e, scale, reml)
    r = parts.r[:, :, :p, :p]
    q = (parts.s2[:, :, :p, :p] + r) / 2.0
    first = parts.s1[:, :p, :p]
    off = layout.tril[0] != layout.tril[1]
    return PrecisionDerivatives(
        to_inner=w_map[:p, :p],
        scale=scale / w_map[p, p] ** 2,
        phi=phi,
        p=first,
        q=q,
        r=r,
        traces=parts.traces,
        observed=observed,
        expected=_expected(parts.traces, phi, first, q, reml),
        jacobian=chain.to_factor(entries.first.T),
        curvature=chain.factor_curvature(entries.second @ gradient[: len(values)]),
        estimated=np.append(~held, np.ones(chain.k - len(values), dtype=bool)),
        unrestricted=bool(
            (lam[held] == 0.0).all()
            and (not held[:count].any() or held[:count][off].all())
        ),
    )


@dataclass(frozen=True)
class _Parts:
    """Derivatives of ``log|V|`` and ``W'V^-1 W`` by ``theta``."""

    d1: FloatArray
    d2: FloatArray
    s1: FloatArray
    s2: FloatArray
    r: FloatArray
    traces: FloatArray


class _Chain:
    """
    From the likelihood's ``(Psi, u)`` to ``theta = (sigma2 Psi, rho, sigma2)``.

    At ``sigma2 = 1``: ``V = sigma2 H(theta[:-2] / sigma2, u(rho))``.
    """

    def __init__(self, values: FloatArray, natural: Jet | None) -> None:
        count = len(values)
        extra = 0 if natural is None else len(natural)
        self.values, self.count, self.k_x = values, count, count + extra
        self.k = self.k_x + 1
        self.natural = natural
        # d(Psi, u) / dtheta, and its second derivatives
        self.first = np.zeros((self.k_x, self.k))
        self.second = np.zeros((self.k_x, self.k, self.k))
        index = np.arange(count)
        self.first[index, index] = 1.0
        self.first[:count, -1] = -values
        self.second[index, index, -1] = self.second[index, -1, index] = -1.0
        self.second[:count, -1, -1] = 2.0 * values
        if natural is not None:
            here = slice(count, self.k_x)
            slopes, bends = inverse_derivatives(natural)
            self.first[here, here] = slopes
            self.second[here, here, here] = bends

    def differentiate(
        self, sums: ClusterSums, bend: ResidualCurvature | None, n: int
    ) -> _Parts:
        """Derivatives by ``theta``; `n` is the number of observations."""
        c, t = self.first, self.second
        d1 = c.T @ sums.d1
        d2 = c.T @ sums.d2 @ c + np.einsum("a,aij->ij", sums.d1, t)
        d1[-1] += n
        d2[-1, -1] -= n
        s1 = np.einsum("ai,axy->ixy", c, sums.s1)
        s2 = np.einsum("ai,bj,abxy->ijxy", c, c, sums.s2, optimize=True)
        s2 += np.einsum("axy,aij->ijxy", sums.s1, t)
        # the factor 1 / sigma2 of V^-1
        s2[:, -1] -= s1
        s2[-1, :] -= s1
        s2[-1, -1] += 2.0 * sums.s
        s1[-1] -= sums.s
        r = np.zeros_like(s2)
        of_second = np.zeros_like(d2)  # tr(V^-1 V_ij)
        if bend is not None:
            here = slice(self.count, self.k_x)
            slopes, bends = c[here, here], t[here, here, here]
            s1_inner, d1_inner = sums.s1[here], sums.d1[here]
            r[here, here] = np.einsum(
                "ki,lj,klxy->ijxy", slopes, slopes, bend.sandwich, optimize=True
            ) - np.einsum("kij,kxy->ijxy", bends, s1_inner)
            r[here, -1] = r[-1, here] = -np.einsum("ki,kxy->ixy", slopes, s1_inner)
            of_second[here, here] = slopes.T @ bend.trace @ slopes
            of_second[here, here] += np.tensordot(d1_inner, bends, 1)
            of_second[here, -1] = of_second[-1, here] = d1_inner @ slopes
        return _Parts(d1, d2, s1, s2, r, of_second - d2)

    def to_factor(self, jacobian: FloatArray) -> FloatArray:
        """Derivative of ``theta`` by (factor, unconstrained, ``log sigma2``)."""
        count, free = jacobian.shape
        out = np.zeros((self.k, free + self.k - count))
        out[:count, :free] = jacobian
        out[:count, -1] = self.values
        if self.natural is not None:
            out[count:-1, free:-1] = self.natural.first.T
        out[-1, -1] = 1.0
        return out

    def factor_curvature(self, curvature: FloatArray) -> FloatArray:
        """Pad the factor's curvature; the gradient by the others is zero."""
        free, extra = len(curvature), self.k - len(self.values)
        out = np.zeros((free + extra, free + extra))
        out[:free, :free] = curvature
        return out


def _without_residual(sums: ClusterSums, count: int) -> ClusterSums:
    """Derivatives by the first `count` parameters alone."""
    curvature = ArrayCurvature(sums.d2[:count, :count], sums.s2[:count, :count])
    return ClusterSums(
        sums.d, sums.s, sums.d1[:count], sums.s1[:count], (curvature,) if count else ()
    )


def _free_part(natural: Jet) -> Jet:
    """The residual parameters that are estimated."""
    return natural[natural.first.any(axis=0)]


def _observed(
    parts: _Parts, phi: FloatArray, e: FloatArray, scale: float, reml: bool
) -> tuple[FloatArray, FloatArray]:
    """Gradient and Hessian of minus the log-likelihood, fixed effects profiled."""
    p = len(phi)
    se = parts.s1 @ e
    gradient = parts.d1 + se @ e / scale
    rss2 = np.einsum("ijxy,x,y->ij", parts.s2, e, e)
    rss2 -= 2.0 * se[:, :p] @ phi @ se[:, :p].T
    hessian = parts.d2 + rss2 / scale
    if reml:
        inner = phi @ parts.s1[:, :p, :p]
        gradient = gradient + np.einsum("ixx->i", inner)
        hessian += np.einsum("ijxy,yx->ij", parts.s2[:, :, :p, :p], phi)
        hessian -= np.einsum("ixy,jyx->ij", inner, inner)
    return 0.5 * gradient, 0.5 * hessian


def _expected(
    traces: FloatArray, phi: FloatArray, first: FloatArray, q: FloatArray, reml: bool
) -> FloatArray:
    """Kenward and Roger (1997), section 2: the expected information."""
    if not reml:
        return 0.5 * traces
    inner = phi @ first
    return 0.5 * (
        traces
        - 2.0 * np.einsum("ijxy,yx->ij", q, phi)
        + np.einsum("ixy,jyx->ij", inner, inner)
    )
