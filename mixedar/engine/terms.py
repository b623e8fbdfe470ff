"""
Effects of further random-effects terms given the data: means, covariances, and what
they leave of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import block_diag

from mixedar._types import FloatArray, IntArray
from mixedar.engine.blocks.base import LikelihoodBlock, ParameterPoint
from mixedar.engine.compress import ClusterRows
from mixedar.engine.level import Level
from mixedar.engine.levels import LevelsBlock
from mixedar.engine.linked import LARGEST
from mixedar.engine.sparse import SparseBlock, SparseLevel

# Numbers in the covariances of combinations that are gathered at a time.
_NUMBERS = 2**19


@dataclass(frozen=True)
class TermEffects:
    """
    Conditional distribution of the effects of a further term given the data.

    Attributes
    ----------
    means : ndarray, shape (levels, k)
        Best linear unbiased predictions.
    spread : ndarray, shape (levels, k, k)
        Their covariances, as far as they can be had.
    slopes : ndarray, shape (levels, k, p)
        How predictions fall as the fixed effects rise.
    sparse : list of SparseLevel
        Where they cannot.
    """

    means: FloatArray
    spread: FloatArray
    slopes: FloatArray
    sparse: list[SparseLevel] = field(default_factory=list)

    @property
    def covariances(self) -> FloatArray:
        """
        Covariances of the effects of each level, shape (levels, k, k).

        Relative to the residual variance; the fixed effects are taken as known.
        """
        for level in self.sparse:
            level.root  # noqa: B018  says why there are none
        return self.spread


#: Blocks, and their further terms' effects eliminated.
Eliminated = Sequence[tuple[LevelsBlock | SparseBlock, Level | SparseLevel]]


def eliminated_terms(
    blocks: Sequence[LikelihoodBlock], point: ParameterPoint
) -> Eliminated:
    """Eliminate the effects of the further terms at a point of the parameter space."""
    out: list[tuple[LevelsBlock | SparseBlock, Level | SparseLevel]] = []
    for block in blocks:
        if isinstance(block, SparseBlock) and block.n_columns <= LARGEST:
            block = LevelsBlock(block.rows, block.structure)
        if isinstance(block, (LevelsBlock, SparseBlock)):
            out.append((block, block.eliminated(point)))
    return out


def _level_counts(eliminated: Eliminated) -> list[int]:
    """Number of levels of each term."""
    levels = zip(*(block.levels for block, _ in eliminated), strict=True)
    return [1 + max(int(part.max()) for part in parts) for parts in levels]


def predict_terms(
    eliminated: Eliminated,
    to_user: FloatArray,
    beta: FloatArray,
    term_maps: Sequence[FloatArray],
) -> list[TermEffects]:
    """
    Best linear unbiased predictions of the effects of all further terms.

    Parameters
    ----------
    eliminated : sequence of (LevelsBlock, Level)
    to_user : ndarray, shape (p + 1, p + 1)
        Map from the columns of the blocks' ``W`` back to ``[X y]``.
    beta : ndarray, shape (p,)
    term_maps : sequence of ndarray
        Internal scaling of the terms' columns.

    Returns
    -------
    list of TermEffects
    """
    p = len(beta)
    out = [
        TermEffects(
            np.empty((n, len(m))),
            np.empty((n, len(m), len(m))),
            np.empty((n, len(m), p)),
        )
        for n, m in zip(_level_counts(eliminated), term_maps, strict=True)
    ]
    for block, level in eliminated:
        effect = np.tensordot(to_user.T, level.effect, axes=1)  # of X, then of y
        for t, (found, term_map) in enumerate(zip(out, term_maps, strict=True)):
            component, where = block.component_of[t], block.columns_of(t)
            slopes = term_map @ effect[:p, where, component[:, None]].T.swapaxes(0, 1)
            own = effect[p, where, component[:, None]] @ term_map.T
            at = block.levels[t]
            found.slopes[at] = slopes
            found.means[at] = own - slopes @ beta
            if isinstance(level, SparseLevel):
                found.sparse.append(level)
                continue
            roots = level.root[:, where, component[:, None]] @ term_map.T
            found.spread[at] = np.einsum("rla,rlb->lab", roots, roots)
    return out


class RowsOfTerms:
    """
    What the further terms leave of each row, and how they bind rows together.

    With ``B = K Z'H^-1 W``, the terms' effects predicted from each column,
    ``V^-1 W = H^-1 (W - Z B)``, where `H` has the groups' effects only, and
    ``V^-1 = H^-1 - H^-1 Z K Z' H^-1``.

    Parameters
    ----------
    rows : ClusterRows
        In the coordinates of the blocks.
    eliminated : sequence of (LevelsBlock, Level)
    """

    def __init__(self, rows: ClusterRows, eliminated: Eliminated) -> None:
        self._rows, self._eliminated = rows, eliminated
        #: number of columns of the largest component
        self.width = max(level.effect.shape[1] for _, level in eliminated)

    @property
    def left(self) -> FloatArray:
        """``W - Z B``, shape (n, p + 1)."""
        out = self._rows.w.copy()
        for here, column, where, component, level in self.entries():
            out[here] -= (level.effect[:, where, component] * column).T
        return out

    def images(self, some: slice) -> FloatArray:
        """
        Columns of ``Z C'`` with ``C'C = K``, of each row's own component.

        Parameters
        ----------
        some : slice
            Of the :attr:`width` columns.

        Returns
        -------
        ndarray, shape (n, k)
        """
        k = len(range(*some.indices(self.width)))
        out = np.zeros((len(self._rows.w), k))
        for here, column, where, component, level in self.entries():
            root = level.root[some]
            out[here, : len(root)] += (root[:, where, component] * column).T
        return out

    def entries(
        self,
    ) -> Iterator[tuple[IntArray, FloatArray, IntArray, IntArray, Level | SparseLevel]]:
        """Rows, a column of their design, and where its effects stand."""
        for block, level in self._eliminated:
            for t, term in enumerate(self._rows.terms):
                number = np.full(term.n_levels, -1)
                number[block.levels[t]] = np.arange(len(block.levels[t]))
                here = np.flatnonzero(number[term.codes] >= 0)
                which = number[term.codes[here]]
                component, columns = block.component_of[t][which], block.columns_of(t)
                for a, column in enumerate(term.columns[here].T):
                    yield here, column, columns[which, a], component, level


class TermPosterior:
    """
    Joint conditional distribution of the effects of all further terms.

    Effects are numbered term by term, level by level.

    Parameters
    ----------
    eliminated : sequence of (LevelsBlock, Level)
    term_maps : sequence of ndarray
        Internal scaling of the terms' columns.
    further : mapping of int to (ndarray, ndarray), optional
        By term, levels whose effects follow from those of its other levels: weights,
        shape (new, levels), and the covariance of what does not follow, in internal
        coordinates, shape (new order, new order).  They are numbered behind those.
    """

    def __init__(
        self,
        eliminated: Eliminated,
        term_maps: Sequence[FloatArray],
        further: Mapping[int, tuple[FloatArray, FloatArray]] | None = None,
    ) -> None:
        self._maps = term_maps
        orders = [len(term_map) for term_map in term_maps]
        counts = _level_counts(eliminated)
        fitted = counts.copy()
        for t, (weights, _) in (further or {}).items():
            counts[t] += len(weights)
        #: number of the first effect of each term
        self.starts = np.concatenate([[0], np.cumsum(np.multiply(orders, counts))])
        self._place = np.empty((3, self.starts[-1]), dtype=np.intp)
        self._covariances = []
        for number, (block, level) in enumerate(eliminated):
            self._covariances.append(level.shrink)
            for t, order in enumerate(orders):
                at = self.numbers(t, block.levels[t])
                self._place[0, at] = number
                self._place[1, at] = np.repeat(
                    block.component_of[t][:, None], order, axis=1
                )
                self._place[2, at] = block.columns_of(t)
        for t, (weights, rest) in (further or {}).items():
            # related levels link everything: there is one block, and one component
            ((block, _),) = eliminated
            columns = block.columns_of(t)[np.argsort(block.levels[t])]
            whole = self._covariances[0][:, :, 0]
            q, order = len(whole), orders[t]
            turn = np.zeros((len(rest), q))
            turn[:, columns.ravel()] = np.kron(weights, np.eye(order))
            across = turn @ whole
            new = across @ turn.T + rest
            whole = np.block([[whole, across.T], [across, new]])
            self._covariances[0] = whole[:, :, None]
            at = self.numbers(t, fitted[t] + np.arange(len(weights)))
            self._place[:2, at] = 0
            self._place[2, at] = (q + np.arange(len(rest))).reshape(-1, order)

    def numbers(self, t: int, levels: IntArray) -> IntArray:
        """Numbers of the effects of levels of a term, shape (levels, k)."""
        order = len(self._maps[t])
        first = self.starts[t] + order * levels
        return np.asarray(first[:, None] + np.arange(order))

    def covariance(self, some: IntArray) -> FloatArray:
        """
        Covariance of some effects, relative to the residual variance.

        Parameters
        ----------
        some : ndarray of int, shape (k,)
            Numbers of effects of whole levels, one level after the other.

        Returns
        -------
        ndarray, shape (k, k)
        """
        block, component, column = self._place[:, some]
        together = (block[:, None] == block) & (component[:, None] == component)
        out = np.zeros((len(some), len(some)))
        for number, covariances in enumerate(self._covariances):
            here = np.flatnonzero(block == number)
            rows, columns = column[here][:, None], column[here]
            out[np.ix_(here, here)] = covariances[rows, columns, component[here]]
        term = np.searchsorted(self.starts, some, side="right") - 1
        maps, first = [], 0
        while first < len(some):
            maps.append(self._maps[term[first]])
            first += len(maps[-1])
        turn = block_diag(*maps) if maps else np.empty((0, 0))
        return np.asarray(turn @ np.where(together, out, 0.0) @ turn.T)

    def quadratic(self, t_of: IntArray, d: FloatArray, which: IntArray) -> FloatArray:
        """
        Variances of combinations of effects, relative to the residual variance.

        Parameters
        ----------
        t_of : ndarray of int, shape (l,)
            Term of each column; those of one level are neighbours.
        d : ndarray, shape (m, l)
            On the user's scale.
        which : ndarray of int, shape (m, l)
            Numbers of the effects; -1 for none.

        Returns
        -------
        ndarray, shape (m,)
        """
        inner = np.empty_like(d)
        for t, term_map in enumerate(self._maps):
            own = np.flatnonzero(t_of == t)
            parts = d[:, own].reshape(len(d), -1, len(term_map))
            inner[:, own] = (parts @ term_map).reshape(len(d), len(own))
        inner = np.where(which >= 0, inner, 0.0)
        block, component, column = self._place[:, np.maximum(which, 0)]
        out = np.zeros(len(d))
        step = max(1, _NUMBERS // max(d.shape[1], 1) ** 2)
        for first in range(0, len(d), step):
            rows = slice(first, first + step)
            for number, covariances in enumerate(self._covariances):
                x = np.where(block[rows] == number, inner[rows], 0.0)
                c, k = component[rows], column[rows]
                c, k = (np.where(block[rows] == number, part, 0) for part in (c, k))
                pairs = covariances[k[:, :, None], k[:, None, :], c[:, :, None]]
                pairs = np.where(c[:, :, None] == c[:, None, :], pairs, 0.0)
                out[rows] += np.einsum("ma,mab,mb->m", x, pairs, x)
        return out
