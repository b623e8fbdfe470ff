"""
Score tests of a fitted covariance against small departures from it.

If the whitened errors had the covariance ``I + delta A``, the derivative of the
restricted log-likelihood by ``delta`` at zero would be

    s_A = (u'A u - tr(P A)) / 2,    P = Cov(u),

with ``u`` the normalized residuals; two of these have the covariance
``tr(P A P B) / 2``.  The parameters that were estimated are directions of the
same kind (``Z* dPsi Z*'``, the derivative of ``R``, ``P^-1`` for the scale), and
what they explain is taken out of the score and of its variance: Rao's score
test with the expected information.  Its null distribution takes account of
predicted random effects and of all estimated parameters, to first order.

References
----------
Breusch, T. S. and Pagan, A. R. (1980), The Lagrange multiplier test and its
applications to model specification in econometrics, Review of Economic Studies
47, 239-253.

Harville, D. A. (1977), Maximum likelihood approaches to variance component
estimation and to related problems, Journal of the American Statistical
Association 72, 320-338.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixedar._types import FloatArray
from mixedar.diagnostics.residuals.alternatives import Direction, SlopeDirection
from mixedar.diagnostics.residuals.covariance import (
    ResidualTheory,
    cluster_products,
    residual_slopes,
    residual_theory,
)
from mixedar.numeric.linalg import product

# Directions with less information of their own than this are not tested.
_OWN_INFORMATION = 1e-3
_SINGULAR = 1e-9


@dataclass(frozen=True)
class EfficientScore:
    """
    Scores of some directions, freed of what was estimated.

    Attributes
    ----------
    score : ndarray, shape (k,)
    variance : ndarray, shape (k, k)
    raw : ndarray, shape (k,)
        Variances if nothing had been estimated.
    """

    score: FloatArray
    variance: FloatArray
    raw: FloatArray

    def joint(self, inflation: float = 1.0) -> tuple[float, int]:
        """
        Statistic of all directions together, and its degrees of freedom.

        Parameters
        ----------
        inflation : float
            Factor of the variance.

        Returns
        -------
        statistic : float
            Chi-squared if the model is true.
        df : int
            Directions that the estimated parameters do not span.
        """
        size = np.sqrt(np.where(self.raw > 0.0, self.raw, 1.0))
        values, vectors = np.linalg.eigh(self.variance / np.outer(size, size))
        keep = values > _OWN_INFORMATION
        parts = vectors[:, keep].T @ (self.score / size)
        return float((parts**2 / values[keep]).sum() / inflation), int(keep.sum())

    @property
    def tested(self) -> NDArray[np.bool_]:
        """Which directions have information of their own, shape (k,)."""
        return np.diag(self.variance) > _OWN_INFORMATION * self.raw


@dataclass(frozen=True)
class _Image:
    """A direction applied to what the traces need."""

    direction: Direction
    ag: FloatArray
    af: FloatArray
    gag: FloatArray
    gaf: FloatArray
    faf: FloatArray
    by_psi: FloatArray
    trace: float
    score: float


class ScoreFrame:
    """
    A fit, and the directions in which its parameters were estimated.

    Parameters
    ----------
    theory : ResidualTheory
    slopes : sequence of SlopeDirection
        Residual parameters.
    changes : ndarray, shape (k, q, q)
        ``dPsi`` of each free parameter of the random effects.
    scale_score : float
        Score of the residual variance: zero under REML, p / 2 under ML.
    """

    def __init__(
        self,
        theory: ResidualTheory,
        slopes: Sequence[SlopeDirection],
        changes: FloatArray,
        scale_score: float,
    ) -> None:
        self.theory, self.changes = theory, changes
        self.scale_score = scale_score
        self._shrunk = theory.shrink(theory.z)  # M Z*
        self._u = cluster_products(theory.z, self._shrunk, self._offsets)
        self._zf = cluster_products(theory.z, theory.f, self._offsets)
        self._stack = np.concatenate(
            [theory.g, theory.f, self._shrunk, theory.values[:, None]], axis=1
        )
        self._slopes = [self._image(slope) for slope in slopes]

    @property
    def _offsets(self) -> NDArray[np.intp]:
        return self.theory.rows.offsets

    def _image(self, direction: Direction) -> _Image:
        t = self.theory
        q, p = t.g.shape[1], t.f.shape[1]
        image = direction.apply(self._stack)
        ag, af, az = image[:, :q], image[:, q : q + p], image[:, q + p : 2 * q + p]
        # what remains of dPsi's inner product once dPsi is known: (q, q)
        zaf = cluster_products(self._shrunk, af, self._offsets)
        by_psi = product(self._shrunk.T, az) - 2.0 * np.einsum(
            "iar,ibr->ab", zaf, self._zf
        )
        faf = product(t.f.T, af)
        trace = float(direction.diagonal(t.n).sum())
        trace -= float((t.g * ag).sum()) + float(np.trace(faf))
        return _Image(
            direction,
            ag,
            af,
            cluster_products(t.g, ag, self._offsets),
            cluster_products(t.g, af, self._offsets),
            faf,
            by_psi,
            trace,
            0.5 * (float(t.values @ image[:, -1]) - trace),
        )

    def _inner(self, a: _Image, b: _Image) -> float:
        """``tr(P A P B)``."""
        out = a.direction.inner(b.direction)
        out -= 2.0 * float((a.ag * b.ag).sum())
        out += float((a.gag * b.gag).sum())
        out -= 2.0 * float((a.af * b.af).sum() - (a.gaf * b.gaf).sum())
        return out + float((a.faf * b.faf).sum())

    @cached_property
    def _f_changes(self) -> FloatArray:
        """``F'Z* dPsi Z*'F``, shape (k, p, p)."""
        return np.einsum(
            "iar,kab,ibs->krs", self._zf, self.changes, self._zf, optimize=True
        )

    @cached_property
    def _psi_traces(self) -> FloatArray:
        """``tr(P Z* dPsi Z*')``, shape (k,)."""
        within = np.einsum("kab,ab->k", self.changes, self._u.sum(axis=0))
        return within - np.einsum("krr->k", self._f_changes)

    def _with_nuisance(self, a: _Image) -> FloatArray:
        """``tr(P A P B)`` for the estimated directions."""
        psi = np.einsum("kab,ab->k", self.changes, a.by_psi)
        psi += np.einsum("krs,rs->k", self._f_changes, a.faf)
        slopes = [self._inner(a, slope) for slope in self._slopes]
        return np.concatenate([psi, slopes, [a.trace]])

    @cached_property
    def _nuisance(self) -> tuple[FloatArray, FloatArray]:
        """Traces among the estimated directions, and their scores."""
        t, changes = self.theory, self.changes
        k_psi, k_slope = len(changes), len(self._slopes)
        k = k_psi + k_slope + 1
        table = np.zeros((k, k))
        du = np.einsum("kab,ibc->kiac", changes, self._u)
        table[:k_psi, :k_psi] = np.einsum("kiab,liba->kl", du, du, optimize=True)
        dn = np.einsum("kab,ibr->kiar", changes, self._zf)
        udn = np.einsum("iab,kibr->kiar", self._u, dn)
        table[:k_psi, :k_psi] -= 2.0 * np.einsum("kiar,liar->kl", dn, udn)
        table[:k_psi, :k_psi] += np.einsum(
            "krs,lrs->kl", self._f_changes, self._f_changes
        )
        table[:k_psi, -1] = table[-1, :k_psi] = self._psi_traces
        table[-1, -1] = t.n - t.f.shape[1]
        scores = np.zeros(k)
        zu = cluster_products(t.z, t.values[:, None], self._offsets)[:, :, 0]
        squares = np.einsum("ia,kab,ib->k", zu, changes, zu, optimize=True)
        scores[:k_psi] = 0.5 * (squares - self._psi_traces)
        scores[-1] = self.scale_score
        for j, slope in enumerate(self._slopes, start=k_psi):
            table[j] = table[:, j] = self._with_nuisance(slope)
            scores[j] = slope.score
        return table, scores

    @cached_property
    def nuisance_scores(self) -> FloatArray:
        """Scores of the estimated parameters: zero at a maximum inside."""
        return self._nuisance[1]

    def efficient(
        self, directions: Sequence[Direction], *, joint: bool = True
    ) -> EfficientScore:
        """
        Scores of directions, freed of the estimated parameters.

        Parameters
        ----------
        directions : sequence of Direction
        joint : bool
            Whether covariances between the directions are wanted; without them
            memory does not grow with the number of directions.

        Returns
        -------
        EfficientScore
        """
        k = len(directions)
        table, nuisance = self._nuisance
        cross = np.empty((k, len(table)))
        inner, score = np.zeros((k, k)), np.empty(k)
        images: list[_Image] = []
        for i, direction in enumerate(directions):
            image = self._image(direction)
            cross[i], score[i] = self._with_nuisance(image), image.score
            inner[i, i] = self._inner(image, image)
            if joint:
                for j, other in enumerate(images):
                    inner[i, j] = inner[j, i] = self._inner(image, other)
                images.append(image)
        weights = cross @ _pseudo_inverse(table)
        variance = inner - weights @ cross.T
        return EfficientScore(
            score - weights @ nuisance,
            0.25 * (variance + variance.T),
            0.5 * np.diag(inner),
        )


def _pseudo_inverse(table: FloatArray) -> FloatArray:
    """Inverse on the directions that exist: a singular Psi has fewer."""
    size = np.sqrt(np.diag(table))
    there = size > 0.0
    size = np.where(there, size, 1.0)
    values, vectors = np.linalg.eigh(table / np.outer(size, size))
    keep = values > _SINGULAR * max(float(values[-1]), _SINGULAR)
    root = vectors[:, keep] / np.sqrt(values[keep]) / size[:, None]
    return np.asarray(root @ root.T)


def score_frame(fit: Any, theory: ResidualTheory | None = None) -> ScoreFrame:
    """
    The directions in which the parameters of a fit were estimated.

    Parameters
    ----------
    fit : MixedLMARResults
        With its data.
    theory : ResidualTheory, optional
        What is known of the fit already, or of some of its groups.

    Returns
    -------
    ScoreFrame
    """
    theory = residual_theory(fit) if theory is None else theory
    found = residual_slopes(fit, theory.model)
    blocks = [block.moved(theory.place) for block in found]
    slopes = [SlopeDirection(blocks, k, theory.n) for k in range(fit.structure.k_free)]
    problem = fit.fit.problem
    lam = problem.split(np.asarray(fit._theta))[0]
    jacobian = problem.covariance.jacobian(lam)
    inner = np.tensordot(jacobian.T, problem.covariance.directions, axes=1)
    changes = problem.z_map @ inner @ problem.z_map.T
    scale_score = 0.0 if fit.reml else 0.5 * fit.k_fe
    return ScoreFrame(theory, slopes, changes, scale_score)
