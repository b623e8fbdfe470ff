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

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.engine.blocks import curvature_blocks, product_blocks
from mixedar.engine.blocks.base import ClusterSums, ParameterPoint
from mixedar.engine.blocks.markov import previous, products
from mixedar.engine.compress import ClusterRows
from mixedar.engine.covariance import RandomCovariance
from mixedar.engine.level import Together, eliminate
from mixedar.engine.levels import LevelsBlock
from mixedar.engine.likelihood import cluster_sums, profile
from mixedar.engine.problem import LikelihoodProblem
from mixedar.engine.residuals import markov_of
from mixedar.engine.terms import RowsOfTerms, eliminated_terms
from mixedar.numeric.autodiff import (
    Jet,
    chain,
    concatenate,
    embed,
    inverse_derivatives,
    variables,
)
from mixedar.numeric.linalg import trace_product
from mixedar.residual import MarkovStructure, ResidualStructure
from mixedar.residual.base import Parametric


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

    def of(self, some: IntArray) -> ResidualCurvature:
        """What some of the parameters contribute."""
        pairs = np.ix_(some, some)
        return ResidualCurvature(self.sandwich[pairs], self.trace[pairs])


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
        point = ParameterPoint(covariance, factor, u)
        found = [block.bends(point) for block in curvature_blocks(rows, structure)]
        return ResidualCurvature(
            np.sum([sandwiches for sandwiches, _ in found], axis=0),
            np.sum([traces for _, traces in found], axis=0),
        )
    images, squares = _symmetrised_slopes(rows, markov, u)
    q, width = rows.z.shape[1], rows.w.shape[1]
    sandwich, trace = np.zeros((width, width)), 0.0
    sizes = np.diff(rows.offsets)
    row_weights = np.repeat(rows.weights, sizes)
    trace += float(row_weights @ squares)
    for block in product_blocks(rows, structure):
        cross = block.at(u, derivatives=True)
        counts = sizes[block.clusters]
        ends = np.cumsum(counts)
        everyone = len(block.clusters) == rows.n_clusters
        here = images if everyone else images[rows.index(block.clusters)]
        z, w = here[:, :q], here[:, q:]
        zt, ww = products(z, z, w, w, ends - counts)
        zz = 2.0 * zt[:q] - cross.zz[2]
        zw = 2.0 * zt[q:] - cross.zw[2]
        sandwich += 2.0 * ww - cross.ww[2]
        trace += float(cross.logdet[2])
        level = eliminate(cross.zz[0], cross.zw[0], factor)
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
    held: BoolArray,
    term_factors: tuple[FloatArray, ...] = (),
    scale: float | None = None,
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
    u : ndarray, shape (k_free,)
        Unconstrained residual parameters, and those of what relates levels.
    reml : bool
    held : ndarray of bool, shape (k_params,)
        Which of these parameters are taken as known.
    term_factors : tuple of ndarray
        ``Lambda`` of one level of each further term, in internal coordinates.
    scale : float, optional
        The residual variance, if it is known.

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
    fixed = ~layout.is_free
    mask = np.where(fixed, 0.0, np.nan)
    problem = LikelihoodProblem(
        rows, n, structure, replace(layout, fixed=mask), reml=reml, scale=scale
    )
    lam = _lower_entries(layout, factor, term_factors)
    covariance = replace(problem.covariance, fixed=np.where(fixed, lam, np.nan))
    entries = covariance.jet(lam[~fixed])
    point = ParameterPoint(covariance, factor, u, term_factors)
    sums = cluster_sums(
        problem.blocks, *point[:3], derivatives=True, term_factors=term_factors
    )
    natural, moved = _estimated(problem.parameters, u, held)
    bend = _curvature(rows, structure, problem, point)
    v, sigma2 = _by_theta(entries.value, natural)
    p, k_cov = len(problem.w_map) - 1, len(entries)
    used = np.concatenate([np.arange(k_cov), k_cov + moved])
    s, r, traces = _differentiated(sums, used, v, sigma2, bend.of(used), n, p)
    log_scale = math.log(problem.profiled(sums).scale)
    best = profile(sums, n, reml=reml, log_scale=log_scale)
    used = np.append(used, len(best.gradient) - 1)
    by_v = Jet(best.llf, best.gradient[used], best.hessian[np.ix_(used, used)])
    llf = chain(by_v, concatenate([v, np.log(sigma2)]))
    q = (s.second + r) / 2.0
    theta = _by_factor(entries, natural)
    # the gradient by all others is zero
    curvature, free = np.zeros((theta.k, theta.k)), entries.k
    curvature[:free, :free] = -entries.second @ llf.first[: len(entries)]
    # a known variance is the last of both
    moving = slice(theta.k if scale is None else theta.k - 1)
    return PrecisionDerivatives(
        to_inner=problem.w_map[:p, :p],
        scale=best.scale / problem.w_map[p, p] ** 2,
        phi=best.sxx_inverse,
        p=s.first,
        q=q,
        r=r,
        traces=traces,
        observed=-llf.second,
        expected=_expected(traces, best.sxx_inverse, s.first, q, reml),
        jacobian=theta.first.T[:, moving],
        curvature=curvature[moving, moving],
        estimated=np.concatenate(
            [~fixed, np.ones(len(natural), dtype=bool), [scale is None]]
        ),
        unrestricted=_is_unrestricted(layout, lam),
    )


def _lower_entries(
    layout: RandomCovariance, factor: FloatArray, term_factors: tuple[FloatArray, ...]
) -> FloatArray:
    """Entries of ``Lambda`` in the order of the layout's, shape (k_cov,)."""
    components = np.diagonal(factor)[layout.component_starts]
    terms = [root[np.tril_indices(len(root))] for root in term_factors]
    return np.concatenate([factor[layout.tril], components, *terms])


def _is_unrestricted(layout: RandomCovariance, lam: FloatArray) -> bool:
    """Whether entries are held at zero only, and covariances all or none."""

    def is_plain(block: RandomCovariance) -> bool:
        rows, columns = block.tril
        held = ~block.is_free[: len(rows)]
        return not held.any() or bool(held[rows != columns].all())

    blocks = [layout.of_groups, *layout.of_terms]
    return bool((lam[~layout.is_free] == 0.0).all()) and all(map(is_plain, blocks))


def _curvature(
    rows: ClusterRows,
    structure: ResidualStructure,
    problem: LikelihoodProblem,
    point: ParameterPoint,
) -> ResidualCurvature:
    """Sandwiches and traces of all second derivatives of ``H``, by all of ``v``."""
    width, k_cov = len(problem.w_map), problem.covariance.k_cov
    k = k_cov + len(point.u)
    out = ResidualCurvature(np.zeros((k, k, width, width)), np.zeros((k, k)))
    if structure.k_free:
        found = _curvature_of_rows(rows, structure, problem, point)
        inner = slice(k_cov, k_cov + structure.k_free)
        out.sandwich[inner, inner] = found.sandwich
        out.trace[inner, inner] = found.trace
    for block in problem.blocks:
        if isinstance(block, LevelsBlock) and any(problem.between):
            block.add_bends(point, out.sandwich, out.trace)
    return out


def _curvature_of_rows(
    rows: ClusterRows,
    structure: ResidualStructure,
    problem: LikelihoodProblem,
    point: ParameterPoint,
) -> ResidualCurvature:
    """Sandwiches and traces in the presence of further terms."""
    inner = rows.transformed(problem.z_map, problem.w_map, problem.term_maps)
    u = point.u[: structure.k_free]
    arguments = structure, point.covariance.of_groups, point.factor, u
    if not rows.terms:
        return residual_curvature(inner, *arguments)
    of_terms = RowsOfTerms(inner, eliminated_terms(problem.blocks, point))
    width = inner.w.shape[1]
    both = np.column_stack([of_terms.left, of_terms.images(slice(None))])
    found = residual_curvature(replace(inner, w=both, terms=()), *arguments)
    taken = np.trace(found.sandwich[..., width:, width:], axis1=2, axis2=3)
    sandwich = found.sandwich[..., :width, :width]
    return ResidualCurvature(sandwich, found.trace - taken)


def _estimated(
    structure: Parametric, u: FloatArray, held: BoolArray
) -> tuple[Jet, IntArray]:
    """Residual and other parameters not held, and which coordinates move them."""
    moved = np.flatnonzero(~held[structure.is_free])
    every = structure.natural(u)[structure.is_free & ~held]
    second = every.second[np.ix_(moved, moved)]
    return Jet(every.value, every.first[moved], second), moved


def _by_theta(values: FloatArray, natural: Jet) -> tuple[Jet, Jet]:
    """
    ``v = (Psi, u)`` and ``sigma2`` by ``theta = (sigma2 Psi, rho, sigma2)``.

    At ``sigma2 = 1``, so that ``V = sigma2 H(v)``.
    """
    count = len(values)
    theta = variables(np.concatenate([values, natural.value, [1.0]]))
    first, second = inverse_derivatives(natural)
    u = Jet(np.zeros(len(first)), first.T, second.transpose(1, 2, 0))
    v = concatenate([theta[:count] / theta[-1], embed(u, count, theta.k)])
    return v, theta[-1:]


def _by_factor(entries: Jet, natural: Jet) -> Jet:
    """``theta`` by (free entries of ``Lambda``, u, ``log sigma2``)."""
    k = entries.k + natural.k + 1
    sigma2 = np.exp(embed(variables(np.zeros(1)), k - 1, k))
    psi = embed(entries, 0, k) * sigma2
    return concatenate([psi, embed(natural, entries.k, k), sigma2])


def _differentiated(
    sums: ClusterSums,
    used: IntArray,
    v: Jet,
    sigma2: Jet,
    bend: ResidualCurvature,
    n: int,
    p: int,
) -> tuple[Jet, FloatArray, FloatArray]:
    """
    ``X'V^-1 X`` by theta, and what second derivatives of ``V`` tell.

    `used` are the parameters of `sums` that `v` are.

    Returns
    -------
    s : Jet of shape (p, p)
    r : ndarray, shape (k, k, p, p)
        ``X'V^-1 V_ij V^-1 X``.
    traces : ndarray, shape (k, k)
        ``tr(V^-1 V_i V^-1 V_j)``.
    """
    sigma2 = sigma2[0]
    pairs = np.ix_(used, used)
    xx = sums.s[:p, :p], sums.s1[used, :p, :p], sums.s2[pairs][:, :, :p, :p]
    s = chain(Jet(*xx), v) / sigma2
    d1 = sums.d1[used]
    d = chain(Jet(sums.d, d1, sums.d2[pairs]), v) + n * np.log(sigma2)
    # X'H^-1 (.) H^-1 X and tr H^-1 (.) of H and its derivatives
    r = chain(Jet(xx[0], -xx[1], bend.sandwich[..., :p, :p]), v) * sigma2
    of_second = chain(Jet(float(n), d1, bend.trace), v) * sigma2
    return s, r.second, of_second.second - d.second


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
