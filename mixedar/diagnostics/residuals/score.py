"""
Score tests of a fitted covariance against small departures from it.

If the whitened errors had the covariance ``I + delta A``, the derivative of the
restricted log-likelihood by ``delta`` at zero would be

    s_A = (u'A u - tr(P A)) / 2,    P = Cov(u),

with ``u`` the normalized residuals; two of these have the covariance
``tr(P A P B) / 2``.  Each alternative ``A`` is a symmetric matrix with blocks for
the series: neighbours at a lag (serial correlation), weights on the diagonal
(variances that differ).  The parameters that were estimated are matrices of the
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

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.diagnostics.residuals.normalized import (
    DerivativeBlock,
    NormalizedResiduals,
    normalized_residuals,
    residual_derivatives,
)
from mixedar.diagnostics.residuals.series import LagBins, Rows, SeriesRows, pairs
from mixedar.fit import Fit
from mixedar.numeric.linalg import product

# Alternatives with less information of their own than this are not tested.
_OWN_INFORMATION = 1e-3
_SINGULAR = 1e-9


class Alternative(ABC):
    """A symmetric matrix with blocks for the series; it is never formed."""

    @abstractmethod
    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""

    @abstractmethod
    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """``A_ts`` of pairs of rows of a series, or of rows with themselves."""

    def diagonal(self, n: int) -> FloatArray:
        """``A_tt``, shape (n,)."""
        rows = np.arange(n)
        return self.entries(rows, rows)

    @abstractmethod
    def inner(self, other: Alternative) -> float:
        """``tr(A B)``."""


@dataclass(frozen=True)
class LagAlternative(Alternative):
    """
    One for each pair at a lag.

    Attributes
    ----------
    blocks : sequence of (later, earlier)
        Sorted rows of the pairs; within a block all pairs are equally many rows
        apart.
    """

    blocks: Sequence[tuple[Rows, Rows]]

    @property
    def count(self) -> int:
        """Number of pairs."""
        return sum(
            rows.stop - rows.start if isinstance(rows, slice) else len(rows)
            for rows, _ in self.blocks
        )

    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""
        out = np.zeros(x.shape)
        for later, earlier in self.blocks:
            if isinstance(later, slice) or 4 * len(later) < len(x):
                out[later] += x[earlier]
                out[earlier] += x[later]
                continue
            # most rows take part: shifting all of them copies less
            step = int((np.asarray(later)[:1] - np.asarray(earlier)[:1])[0])
            used = np.zeros(len(x))
            used[later] = 1.0
            here = used[step:, None]
            out[step:] += here * x[:-step]
            out[:-step] += here * x[step:]
        return out

    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """Zeros: of rows with themselves, since lags share no pairs."""
        return np.zeros(1)

    def inner(self, other: Alternative) -> float:
        """``tr(A B)``."""
        if isinstance(other, LagAlternative):
            return 2.0 * self.count if other is self else 0.0
        return 2.0 * sum(
            float(other.entries(later, earlier).sum()) for later, earlier in self.blocks
        )


@dataclass(frozen=True)
class VarianceAlternative(Alternative):
    """
    A diagonal matrix.

    Attributes
    ----------
    weights : ndarray, shape (n,)
        In sorted order.
    """

    weights: FloatArray

    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""
        return self.weights[:, None] * x

    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """The weights of rows with themselves, and zero of pairs."""
        return self.weights[later] if later is earlier else np.zeros(1)

    def inner(self, other: Alternative) -> float:
        """``tr(A B)``."""
        return float((self.weights * other.diagonal(len(self.weights))).sum())


class ParameterDerivative(Alternative):
    """
    The whitened derivative of the residual correlation by one parameter.

    Parameters
    ----------
    blocks : sequence of DerivativeBlock
    k : int
        Which parameter.
    n : int
        Number of rows.
    """

    def __init__(self, blocks: Sequence[DerivativeBlock], k: int, n: int) -> None:
        self.blocks, self.k = blocks, k
        # where a row is: block, piece of the block, row of the piece
        self._block, self._piece, self._local = np.empty((3, n), dtype=np.intp)
        for b, block in enumerate(blocks):
            pieces, size = block.rows.shape
            self._block[block.rows] = b
            self._piece[block.rows] = np.arange(pieces)[:, None]
            self._local[block.rows] = np.arange(size)

    def apply(self, x: FloatArray) -> FloatArray:
        """``A x`` for sorted columns, shape (n, k)."""
        out = np.empty(x.shape)
        for block in self.blocks:
            values = block.values[self.k]
            if len(values) == 1:  # one product for all pieces
                pieces, size = block.rows.shape
                flat = x[block.rows.T].reshape(size, pieces * x.shape[1])
                image = product(values[0], flat).reshape(size, pieces, x.shape[1])
                out[block.rows.T] = image
                continue
            here = x[block.rows]  # (pieces, size, k)
            together = max(2_000_000 // values.shape[1] ** 2, 1)
            for first in range(0, len(here), together):
                part = slice(first, first + together)
                out[block.rows[part]] = np.matmul(values[block.which[part]], here[part])
        return out

    def entries(self, later: Rows, earlier: Rows) -> FloatArray:
        """``A_ts``; zero between the pieces of a long series."""
        block = self._block[later]
        same = (block == self._block[earlier]) & (
            self._piece[later] == self._piece[earlier]
        )
        out = np.zeros(len(block))
        for b, part in enumerate(self.blocks):
            here = same & (block == b)
            if here.any():
                pattern = part.which[self._piece[later][here]]
                t, s = self._local[later][here], self._local[earlier][here]
                out[here] = part.values[self.k][pattern, t, s]
        return out

    def inner(self, other: Alternative) -> float:
        """``tr(A B)``."""
        if isinstance(other, ParameterDerivative):
            total = 0.0
            for block in self.blocks:
                one, two = block.values[self.k], block.values[other.k]
                total += block.frequency @ np.einsum("pst,pst->p", one, two)
            return float(total)
        return other.inner(self)


def lag_alternatives(
    rows: SeriesRows, bins: LagBins, lags: Sequence[int]
) -> dict[int, LagAlternative]:
    """One alternative for each lag that has pairs, in the order of `lags`."""
    found: dict[int, list[tuple[Rows, Rows]]] = {lag: [] for lag in lags}
    for later, earlier, distance in pairs(rows, bins.limit(max(lags))):
        index = bins.index(distance)
        for lag in found.keys() & range(int(index.min()), int(index.max()) + 1):
            here = index == lag
            if here.all():
                found[lag].append((later, earlier))
            elif here.any():
                found[lag].append((_part(later, here), _part(earlier, here)))
    return {lag: LagAlternative(blocks) for lag, blocks in found.items() if blocks}


def _part(rows: Rows, here: BoolArray) -> IntArray:
    if isinstance(rows, slice):
        return np.flatnonzero(here) + int(rows.start)
    return rows[here]


@dataclass(frozen=True)
class EfficientScore:
    """
    Scores of some alternatives, freed of what was estimated.

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
        Chi-squared statistic of all alternatives together, and its df.

        They are those that the estimated parameters do not span; `inflation` is a
        factor of the variance.
        """
        size = np.sqrt(np.where(self.raw > 0.0, self.raw, 1.0))
        values, vectors = np.linalg.eigh(self.variance / np.outer(size, size))
        keep = values > _OWN_INFORMATION
        parts = vectors[:, keep].T @ (self.score / size)
        return float((parts**2 / values[keep]).sum() / inflation), int(keep.sum())

    @property
    def tested(self) -> BoolArray:
        """Which alternatives have information of their own, shape (k,)."""
        return np.diag(self.variance) > _OWN_INFORMATION * self.raw


@dataclass(frozen=True)
class _Image:
    """An alternative applied to what the traces need."""

    alternative: Alternative
    ag: FloatArray
    af: FloatArray
    gag: FloatArray
    gaf: FloatArray
    faf: FloatArray
    by_psi: FloatArray
    trace: float
    score: float


class ScoreTests:
    """
    Score tests of a fit, from its normalized residuals or those of some groups.

    What several tests need is computed once, when the first asks for it.

    Parameters
    ----------
    fit : Fit
    residuals : NormalizedResiduals, optional
        Those of some groups.
    """

    def __init__(self, fit: Fit, residuals: NormalizedResiduals | None = None) -> None:
        self.fit, self._given = fit, residuals

    @cached_property
    def residuals(self) -> NormalizedResiduals:
        """The residuals that are tested, computed when they are first asked for."""
        return normalized_residuals(self.fit) if self._given is None else self._given

    def _products(self, a: FloatArray, b: FloatArray) -> FloatArray:
        """``a_i'b_i`` of rows that share effects."""
        return self.residuals.clusters.products(a, b)

    @property
    def changes(self) -> FloatArray:
        """``dPsi`` of each free parameter of the random effects, shape (k, q, q)."""
        return self.residuals.effects.changes

    @cached_property
    def _shrunk(self) -> FloatArray:
        """``M Z*``."""
        return self.residuals.shrink(self.residuals.z)

    @cached_property
    def _u(self) -> FloatArray:
        """``Z*'M Z*`` of every group."""
        return self._products(self.residuals.z, self._shrunk)

    @cached_property
    def _zf(self) -> FloatArray:
        """``Z*'F`` of every group."""
        return self._products(self.residuals.z, self.residuals.f)

    @cached_property
    def _stack(self) -> FloatArray:
        r = self.residuals
        return np.concatenate([r.g, r.f, self._shrunk, r.values[:, None]], axis=1)

    @cached_property
    def _estimated(self) -> list[_Image]:
        """The derivatives by the estimated residual parameters."""
        blocks = residual_derivatives(self.fit, self.residuals)
        return [
            self._image(ParameterDerivative(blocks, k, self.residuals.n))
            for k in range(self.fit.structure.k_free)
        ]

    def _image(self, alternative: Alternative) -> _Image:
        t = self.residuals
        q, p = t.g.shape[1], t.f.shape[1]
        image = alternative.apply(self._stack)
        ag, af, az = image[:, :q], image[:, q : q + p], image[:, q + p : 2 * q + p]
        # what remains of dPsi's inner product once dPsi is known: (q, q)
        zaf = self._products(self._shrunk, af)
        by_psi = product(self._shrunk.T, az) - 2.0 * np.einsum(
            "iar,ibr->ab", zaf, self._zf
        )
        faf = product(t.f.T, af)
        trace = float(alternative.diagonal(t.n).sum())
        trace -= float((t.g * ag).sum()) + float(np.trace(faf))
        return _Image(
            alternative,
            ag,
            af,
            self._products(t.g, ag),
            self._products(t.g, af),
            faf,
            by_psi,
            trace,
            0.5 * (float(t.values @ image[:, -1]) - trace),
        )

    def _inner(self, a: _Image, b: _Image) -> float:
        """``tr(P A P B)``."""
        out = a.alternative.inner(b.alternative)
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
        """``tr(P A P B)`` for the estimated parameters."""
        psi = np.einsum("kab,ab->k", self.changes, a.by_psi)
        psi += np.einsum("krs,rs->k", self._f_changes, a.faf)
        others = [self._inner(a, image) for image in self._estimated]
        return np.concatenate([psi, others, [a.trace]])

    @cached_property
    def _nuisance(self) -> tuple[FloatArray, FloatArray]:
        """Traces among the estimated parameters, and their scores."""
        t, changes = self.residuals, self.changes
        k_psi = len(changes)
        k = k_psi + len(self._estimated) + 1
        table = np.zeros((k, k))
        du = np.einsum("kab,ibc->kiac", changes, self._u, optimize=True)
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
        zu = self._products(t.z, t.values[:, None])[:, :, 0]
        squares = np.einsum("ia,kab,ib->k", zu, changes, zu, optimize=True)
        scores[:k_psi] = 0.5 * (squares - self._psi_traces)
        # of the residual variance: zero under REML
        scores[-1] = 0.0 if self.fit.reml else 0.5 * self.fit.k_fe
        for j, image in enumerate(self._estimated, start=k_psi):
            table[j] = table[:, j] = self._with_nuisance(image)
            scores[j] = image.score
        return table, scores

    @cached_property
    def nuisance_scores(self) -> FloatArray:
        """Scores of the estimated parameters: zero at a maximum inside."""
        return self._nuisance[1]

    def efficient(
        self, alternatives: Sequence[Alternative], *, joint: bool = True
    ) -> EfficientScore:
        """
        Scores of alternatives, freed of the estimated parameters.

        Without the covariances between them (`joint`) memory does not grow with
        their number.
        """
        self.fit.check_scale_estimated("score tests of the residuals")
        k = len(alternatives)
        table, nuisance = self._nuisance
        cross = np.empty((k, len(table)))
        inner, score = np.zeros((k, k)), np.empty(k)
        images: list[_Image] = []
        for i, alternative in enumerate(alternatives):
            image = self._image(alternative)
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
