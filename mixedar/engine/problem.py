"""
A likelihood problem: compressed data, a structure, and estimates on the user's scale.

Inside, the designs are rotated and scaled so that ``Z'Z / N`` and ``X'X / N``
are identities and the response has unit length: shifts and scales of time,
of covariates and of the response then change nothing but rounding.  This is
where the optimiser's vector ``theta`` = (free entries of ``Lambda``,
unconstrained residual parameters) is turned into the user's parameters.  With a
variance function ``Lambda`` is measured by the standard deviation of a typical
residual instead of ``sigma``, which is that of a row where the function is one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from mixedar._types import FloatArray
from mixedar.engine.blocks import likelihood_blocks
from mixedar.engine.blocks.base import ClusterSums, LikelihoodBlock, ParameterPoint
from mixedar.engine.blocks.first_look import first_look
from mixedar.engine.compress import ClusterRows, TermRows
from mixedar.engine.covariance import (
    RandomCovariance,
    entry_map,
    factor_entries,
    lower_triangle,
    triangular_entries,
)
from mixedar.engine.levels import LevelsBlock, levels_blocks
from mixedar.engine.likelihood import Evaluation, cluster_sums, profile
from mixedar.engine.sparse import SparseBlock, is_sparse
from mixedar.engine.terms import (
    Eliminated,
    RowsOfTerms,
    TermEffects,
    predict_terms,
)
from mixedar.numeric.autodiff import Jet, embed, substitute
from mixedar.numeric.latest import Latest
from mixedar.numeric.linalg import inverse_triangular, r_factor
from mixedar.relations.base import with_parameters
from mixedar.residual import ResidualStructure
from mixedar.residual.base import Composite, Parametric

if TYPE_CHECKING:
    from typing_extensions import Self

# Rows that are looked at for a typical standard deviation.
_SAMPLE = 1000


@dataclass(frozen=True)
class AllParameters(Composite):
    """Parameters of the residuals, then of what relates the levels of factors."""

    members: tuple[Parametric, ...]

    @property
    def parts(self) -> tuple[Parametric, ...]:
        """See :class:`Composite`."""
        return self.members

    @property
    def param_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names, without those of the factors."""
        return tuple(name for part in self.members for name in part.param_names)


@dataclass(frozen=True)
class ThetaEvaluation:
    """
    Log-likelihood in the optimiser's coordinates.

    Attributes
    ----------
    llf : float
    gradient : ndarray, shape (k,)
    hessian : ndarray, shape (k, k)
        The derivatives have length 0 if they were not asked for.
    """

    llf: float
    gradient: FloatArray
    hessian: FloatArray


class LikelihoodProblem:
    """
    Everything that does not change while parameters do.

    Parameters
    ----------
    rows : ClusterRows
        Compressed rows on the user's scale.
    n : int
        Number of observations behind them.
    structure : ResidualStructure
        Bound to the gaps of the data.
    covariance : RandomCovariance
        Fixed entries of ``Lambda`` are on the user's scale.
    reml : bool
    scale : float, optional
        The residual variance, if it is known.
    """

    def __init__(
        self,
        rows: ClusterRows,
        n: int,
        structure: ResidualStructure,
        covariance: RandomCovariance,
        *,
        reml: bool,
        scale: float | None = None,
    ) -> None:
        self.n = n
        self.n_rows = len(rows.w)
        self.reml = reml
        self._latest = Latest[ClusterSums]()
        #: is told the log-likelihood of each evaluation of a search
        self.watch: Callable[[float], None] | None = None
        self.structure = structure
        #: how the levels of each further term are related, or the copies of one level
        self.between = tuple(term.between for term in rows.terms)
        related = [between for between in self.between if between is not None]
        #: of the residuals, then of what relates the levels of factors
        self.parameters: Parametric = structure
        if related:
            self.parameters = AllParameters((structure, *related))
        self.w_map = _orthonormal_map(rows.w, n)
        self.z_map = random_effects_map(rows, n, covariance)
        fixed = covariance.fixed.copy()
        block_map = self.z_map[: covariance.k_re, : covariance.k_re]
        count = len(covariance.tril[0])
        # a mask that is not all free comes with a diagonal map
        fixed[:count] /= np.diagonal(block_map)[covariance.tril[0]]
        # entries that are held are relative to sigma
        self._by_sigma = bool((fixed[~np.isnan(fixed)] != 0.0).any())
        inner = slice(count, covariance.k_groups)
        fixed[inner] /= np.diagonal(self.z_map)[covariance.component_starts]
        #: of the effects of one copy of each further term
        self.term_maps = tuple(
            _scaled_map(term, layout)
            for term, layout in zip(rows.terms, covariance.of_terms, strict=True)
        )
        for place, term_map in zip(covariance.term_places, self.term_maps, strict=True):
            rows_of, _ = lower_triangle(len(term_map))
            fixed[place.entries] /= np.diagonal(term_map)[rows_of]
        self.covariance = replace(covariance, fixed=fixed)
        self.k_cov_free = int(self.covariance.is_free.sum())
        self.typical_rows = None if self._by_sigma else _typical_rows(rows, structure)
        inside = rows.transformed(self.z_map, self.w_map, self.term_maps)
        self.blocks = self.inner_blocks(inside)
        self._first_look = first_look(self.blocks, inside, structure, self.k_theta)
        # log|X'V^-1 X| changes by the map's determinant
        p = len(self.w_map) - 1
        self.shift = (
            float(np.log(np.abs(np.diagonal(self.w_map)[:p])).sum()) if reml else 0.0
        )
        df = n - p if reml else n
        unit = float(np.log(abs(self.w_map[p, p])))
        self.shift += df * unit
        self.scale = scale
        #: that of the scaled response
        self.log_scale = None if scale is None else math.log(scale) + 2.0 * unit

    def inner_blocks(self, inside: ClusterRows) -> Sequence[LikelihoodBlock]:
        """Blocks of rows in internal coordinates."""
        if is_sparse(inside, self.structure):
            return [SparseBlock(inside, self.structure)]
        if inside.terms:
            return levels_blocks(inside, self.structure)
        return likelihood_blocks(inside, self.structure)

    def of_rows(self, rows: ClusterRows) -> Self:
        """The same problem for other rows, as for another response."""
        inside = rows.transformed(self.z_map, self.w_map, self.term_maps)
        return self.of_inner_rows(inside, self.n)

    def of_inner_rows(self, inside: ClusterRows, n: int) -> Self:
        """The same for `n` rows in internal coordinates."""
        blocks = self.inner_blocks(inside)
        some = first_look(blocks, inside, self.structure, self.k_theta)
        return self._with(blocks, n, len(inside.w), some)

    def for_first_look(self) -> Self | None:
        """The same of rows for a first look, if these are far less work."""
        some = self._first_look
        if some is None:
            return None
        n = round(float(some.counts.sum()))
        return self._with(self.inner_blocks(some), n, len(some.w))

    def unrelated(self) -> Self | None:
        """The same with levels that are not related, where that is far less work."""
        block = self.blocks[0]
        easier = block.unrelated() if isinstance(block, SparseBlock) else None
        return None if easier is None else self._with([easier], self.n, self.n_rows)

    def _with(
        self,
        blocks: Sequence[LikelihoodBlock],
        n: int,
        n_rows: int,
        some: ClusterRows | None = None,
    ) -> Self:
        """The same with other blocks, of `n` observations in `n_rows` rows."""
        other, latest = copy.copy(self), Latest[ClusterSums]()
        vars(other).update(n=n, n_rows=n_rows, blocks=blocks)
        vars(other).update(_latest=latest, _first_look=some)
        return other

    @property
    def n_linked(self) -> int:
        """Effects of further factors in the largest set of levels that meet."""
        blocks = (
            block
            for block in self.blocks
            if isinstance(block, (LevelsBlock, SparseBlock))
        )
        return max((block.n_columns for block in blocks), default=0)

    @property
    def k_theta(self) -> int:
        """Number of parameters of the optimiser."""
        return self.k_cov_free + self.parameters.k_free

    @cached_property
    def ends(self) -> FloatArray:
        """The lowest and the highest value of each coordinate, shape (2, k_theta)."""
        factors = np.outer([-np.inf, np.inf], np.ones(self.k_cov_free))
        return np.concatenate([factors, self.parameters.ends], axis=1)

    def level(self, u: FloatArray) -> Jet | None:
        """
        Logarithm of the residuals' typical standard deviation, by ``sigma``.

        Parameters
        ----------
        u : ndarray, shape (k_free,)

        Returns
        -------
        Jet of shape (), or None if ``Lambda`` is measured by ``sigma``
        """
        if self.typical_rows is None:
            return None
        positions, shares = self.typical_rows
        logs = self.structure.log_sd(positions, u[: self.structure.k_free])
        return None if logs is None else embed(logs.weighted(shares), 0, len(u))

    def factor(self, theta: FloatArray) -> FloatArray:
        """``Lambda`` relative to ``sigma``, in internal coordinates, shape (q, q)."""
        lam, u = self.split(theta)
        factor, level = self.covariance.factor(lam), self.level(u)
        return factor if level is None else factor * np.exp(level.value)

    def term_factors(self, theta: FloatArray) -> tuple[FloatArray, ...]:
        """``Lambda`` of one level of each further term, relative to ``sigma``."""
        if not self.term_maps:
            return ()
        lam, u = self.split(theta)
        level = self.level(u)
        unit = 1.0 if level is None else float(np.exp(level.value))
        return tuple(factor * unit for factor in self.covariance.term_factors(lam))

    def level_factors(self, theta: FloatArray) -> tuple[FloatArray, ...]:
        """The same for all columns of a level, on the user's scale."""
        u = self.split(theta)[1][self.structure.k_free :]
        return tuple(
            layout.whole(
                term_map @ factor,
                None if between is None or layout.copies == 1 else between.root(own),
            )
            for layout, term_map, factor, (between, own) in zip(
                self.covariance.terms,
                self.term_maps,
                self.term_factors(theta),
                with_parameters(self.between, u),
                strict=True,
            )
        )

    def values(self, theta: FloatArray) -> FloatArray:
        """Entries of ``Psi`` relative to ``sigma``, internal, shape (k_cov,)."""
        lam, u = self.split(theta)
        values, level = self.covariance.values(lam), self.level(u)
        return values if level is None else values * np.exp(2.0 * level.value)

    def entries(self, theta: FloatArray) -> Jet:
        """
        The same, with their derivatives by theta.

        With the unconstrained residual parameters, which are the last of theta, they
        are the parameters ``v`` of the likelihood.
        """
        lam, u = self.split(theta)
        out, level = embed(self.covariance.jet(lam), 0, self.k_theta), self.level(u)
        if level is None:
            return out
        return out * np.exp(2.0 * embed(level, self.k_cov_free, self.k_theta))

    def split(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Free entries of ``Lambda``, and all other parameters, unconstrained."""
        return theta[: self.k_cov_free], theta[self.k_cov_free :]

    def unsigned(self, theta: FloatArray) -> FloatArray:
        """The coordinates that stand for all of one covariance of random effects."""
        lam, u = self.split(theta)
        return np.concatenate([self.covariance.unsigned(lam), u])

    def sums(self, theta: FloatArray, *, derivatives: bool) -> ClusterSums:
        """Sums over the clusters, in internal coordinates."""

        def compute() -> ClusterSums:
            point = self.point(theta)
            return cluster_sums(self.blocks, *point, derivatives=derivatives)

        # the estimates are read off where the search ended
        return self._latest.at(theta, compute, keep=lambda _: derivatives)

    def point(self, theta: FloatArray) -> ParameterPoint:
        """The parameters as blocks take them."""
        _, u = self.split(theta)
        factors = self.factor(theta), u, self.term_factors(theta)
        return ParameterPoint(self.covariance, *factors)

    def rows_of_terms(self, rows: ClusterRows, eliminated: Eliminated) -> RowsOfTerms:
        """What further terms leave of rows on the user's scale."""
        inside = rows.transformed(self.z_map, self.w_map, self.term_maps)
        return RowsOfTerms(inside, eliminated)

    def term_effects(
        self, eliminated: Eliminated, beta: FloatArray
    ) -> list[TermEffects]:
        """Predicted effects of the further terms, on the user's scale."""
        if not self.term_maps:
            return []
        to_user = np.asarray(np.linalg.inv(self.w_map), dtype=np.float64)
        return predict_terms(eliminated, to_user, beta, self.level_maps)

    @cached_property
    def level_maps(self) -> tuple[FloatArray, ...]:
        """Internal scaling of all columns of each further term."""
        return tuple(
            layout.whole(term_map)
            for layout, term_map in zip(
                self.covariance.terms, self.term_maps, strict=True
            )
        )

    def profile_at(self, theta: FloatArray, *, derivatives: bool) -> Evaluation:
        """Profiled likelihood in internal coordinates; `llf` is the user's."""
        return self.profiled(self.sums(theta, derivatives=derivatives))

    def profiled(self, sums: ClusterSums) -> Evaluation:
        """The same from sums over the clusters."""
        known, reml = self.log_scale, self.reml
        found = profile(sums, self.n, reml=reml, shift=self.shift, log_scale=known)
        if known is None:
            return found
        gradient, hessian = found.gradient[:-1], found.hessian[:-1, :-1]
        return replace(found, gradient=gradient, hessian=hessian)

    def evaluate(self, theta: FloatArray, *, derivatives: bool) -> ThetaEvaluation:
        """
        Log-likelihood, gradient and Hessian by `theta`.

        Parameters
        ----------
        theta : ndarray, shape (k_theta,)
        derivatives : bool

        Returns
        -------
        ThetaEvaluation
        """
        point = self.profile_at(theta, derivatives=derivatives)
        if not derivatives or self.k_theta == 0:
            return ThetaEvaluation(point.llf, np.empty(0), np.empty((0, 0)))
        if self.watch is not None:
            self.watch(point.llf)
        by_v = Jet(point.llf, point.gradient, point.hessian)
        found = substitute(by_v, self.entries(theta))
        size = np.vdot(found.first, found.first) + np.vdot(found.second, found.second)
        if not math.isfinite(size):
            raise np.linalg.LinAlgError("derivatives over- or underflow")
        return ThetaEvaluation(point.llf, found.first, found.second)

    def inner_beta_map(self) -> FloatArray:
        """Derivative of the internal fixed effects by the user's, shape (p, p)."""
        p = len(self.w_map) - 1
        return np.linalg.inv(self.w_map[:p, :p]) * self.w_map[p, p]

    def inner_beta(self, beta: FloatArray) -> FloatArray:
        """
        Fixed effects in internal coordinates.

        Parameters
        ----------
        beta : ndarray, shape (p,)
            On the user's scale.

        Returns
        -------
        ndarray, shape (p,)
        """
        p = len(self.w_map) - 1
        combined = np.append(-beta, 1.0) * self.w_map[p, p]
        return -solve_triangular(self.w_map, combined)[:p]

    def theta_from(self, factor: FloatArray, params: FloatArray) -> FloatArray:
        """
        Coordinates of a point given on the user's scale.

        Parameters
        ----------
        factor : ndarray, shape (k_cov,)
            Entries of the user's ``Lambda`` in the order of the layout's, relative
            to the residual's standard deviation.
        params : ndarray, shape (k_params,)
            Residual parameters, and those of what relates levels.

        Returns
        -------
        ndarray, shape (k_theta,)
        """
        cov = self.covariance
        count, first = len(cov.tril[0]), cov.k_groups
        scale = np.diagonal(self.z_map)[cov.component_starts]
        parts = [
            cov.in_units(self.z_map[: cov.k_re, : cov.k_re], factor[:count]),
            factor[count:first] / scale,
        ]
        for place, term_map in zip(cov.term_places, self.term_maps, strict=True):
            parts.append(triangular_entries(term_map, factor[place.entries]))
        entries = np.concatenate(parts)
        u = self.parameters.to_unconstrained(params)
        level = self.level(u)
        unit = 1.0 if level is None else np.exp(level.value)
        return np.concatenate([entries[cov.is_free] / unit, u])

    def loglike_at(
        self,
        beta: FloatArray,
        cov_values: FloatArray,
        params: FloatArray,
        scale: float,
    ) -> float:
        """
        Log-likelihood with every parameter given on the user's scale.

        Parameters
        ----------
        beta : ndarray, shape (p,)
            Fixed effects.
        cov_values : ndarray, shape (k_cov,)
            Covariances of random effects relative to `scale`, in the order of the
            layout's entries.
        params : ndarray, shape (k_params,)
            Residual parameters, and those of what relates levels.
        scale : float
            Residual variance.

        Returns
        -------
        float
            Not restricted, whatever the problem's.
        """
        cov = self.covariance
        psi, count = cov.matrix(cov_values), len(cov.tril[0])
        q = cov.k_re
        parts = [cov.root_entries(psi[:q, :q], cov_values[count : cov.k_groups])]
        for place in cov.term_places:
            parts.append(factor_entries(psi[place.effects, place.effects], np.empty(0)))
        theta = self.theta_from(np.concatenate(parts), params)
        sums = self.sums(theta, derivatives=False)
        unit = float(self.w_map[-1, -1])
        e = np.append(-self.inner_beta(beta), 1.0)
        variance = scale * unit**2
        logs = self.n * np.log(2.0 * np.pi * variance) + e @ sums.s @ e / variance
        return float(self.n * np.log(abs(unit)) - 0.5 * (sums.d + logs))

    def value_map(self) -> FloatArray:
        """Linear map from internal to user's entries of ``Psi``, both relative."""
        cov = self.covariance
        count = len(cov.tril[0])
        out = np.zeros((cov.k_cov, cov.k_cov))
        block = self.z_map[: cov.k_re, : cov.k_re]
        out[:count, :count] = cov.block_map(block)
        vc = np.arange(count, cov.k_groups)
        out[vc, vc] = np.diagonal(self.z_map)[cov.component_starts] ** 2
        for place, term_map in zip(cov.term_places, self.term_maps, strict=True):
            out[place.entries, place.entries] = entry_map(term_map)
        return out


def _typical_rows(
    rows: ClusterRows, structure: ResidualStructure
) -> tuple[FloatArray, FloatArray] | None:
    """Some rows as the structure sees them, and their shares."""
    if rows.marks is None:
        return None
    marks = rows.marks[:: max(len(rows.marks) // _SAMPLE, 1)]
    distinct, count = np.unique(marks, axis=0, return_counts=True)
    positions = np.column_stack([np.zeros(len(distinct)), distinct])
    if structure.log_sd(positions[:1], structure.start_grid()[0]) is None:
        return None
    return positions, count / len(marks)


def _orthonormal_map(w: FloatArray, n: int) -> FloatArray:
    """Upper triangular map after which ``W'W = n I``."""
    factor = r_factor(w)
    return inverse_triangular(factor) * np.sqrt(n)


def _unit_map(columns: FloatArray, n: int, *, rotated: bool) -> FloatArray:
    """Map after which columns have unit mean squares, and are orthogonal."""
    if rotated and columns.shape[1] > 1:
        return inverse_triangular(r_factor(columns)) * np.sqrt(n)
    squares = np.einsum("nk,nk->k", columns, columns)
    return np.diag(1.0 / np.sqrt(squares / n))


def _scaled_map(term: TermRows, layout: RandomCovariance) -> FloatArray:
    """The same for a further term, all copies together."""
    apart = term.columns.reshape(-1, layout.k_re)
    return _unit_map(apart, len(term.columns), rotated=bool(layout.is_free.all()))


def random_effects_map(
    rows: ClusterRows, n: int, covariance: RandomCovariance
) -> FloatArray:
    """
    Map after which the random-effects design has unit mean squares.

    Parameters
    ----------
    rows : ClusterRows
    n : int
        Number of observations.
    covariance : RandomCovariance
        If some entries are fixed the map is diagonal, else upper triangular; with
        compound symmetry it is a multiple of the identity.

    Returns
    -------
    ndarray, shape (q, q)
    """
    q, k_re = covariance.order, covariance.k_re
    out = np.eye(q)
    if q == 0:
        return out
    row_weights = np.repeat(rows.weights, np.diff(rows.offsets))
    used = row_weights > 0.0
    root_weights = np.sqrt(row_weights[used])
    if k_re:
        block = rows.z[used, :k_re] * root_weights[:, None]
        free = covariance.is_free[: len(covariance.tril[0])].all()
        out[:k_re, :k_re] = _unit_map(block, n, rotated=bool(free))
        if covariance.compound:
            # one unit for all columns: their common variances stay common
            out[:k_re, :k_re] = np.eye(k_re) / np.sqrt((block**2).sum() / (n * k_re))
    first = k_re
    for size in covariance.vc_sizes:
        columns = rows.z[used, first : first + size]
        mean_square = float((columns**2).sum(axis=1) @ root_weights**2) / n
        scale = 1.0 / np.sqrt(mean_square) if mean_square > 0.0 else 1.0
        out[range(first, first + size), range(first, first + size)] = scale
        first += size
    return out
