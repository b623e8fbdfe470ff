"""
New rows between those of long series, and behind them, by the states of both.

Where series are merged with the rows asked for, the covariances of new residuals with
``R^-1 y`` are products of one recursion forwards and one backwards, and what is left of
their variance follows from what the rows before tell of the state (covariances) and
the rows behind (information).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mixedar._types import FloatArray, IntArray
from mixedar.engine.kalman import NeighbourCells, Predictions, smoothed_variances
from mixedar.exceptions import StructureError
from mixedar.residual import ResidualStructure

# Variances below minus this are no rounding.
_NEGATIVE = 1e-6


@dataclass(frozen=True)
class StateWeights:
    """
    Weights of observed residuals for new ones, which are not written out.

    Attributes
    ----------
    observed : Predictions
        Of the observed rows.
    merged : Predictions
        Of these and the new ones.
    old : ndarray of int, shape (n,)
    new : ndarray of int, shape (k,)
        Where they are among the merged rows; -1 where nothing was observed.
    sd : tuple of ndarray, shapes (k,) and (n,)
        Standard deviations of new and of observed rows.
    """

    observed: Predictions
    merged: Predictions
    old: IntArray
    new: IntArray
    sd: tuple[FloatArray, FloatArray]

    def __matmul__(self, columns: FloatArray) -> FloatArray:
        """Weighted sums of columns, (n,) or (n, c), to (k,) or (k, c)."""
        rows = columns.reshape(len(columns), -1).T / self.sd[1]
        solved = np.zeros((len(rows), len(self.merged.variance)))
        solved[:, self.old] = self.observed.whiten_back(self.observed.whiten(rows))
        found = self.merged.times(solved)[:, self.new] * self.sd[0]
        found[:, self.new < 0] = 0.0
        return found.T.reshape(len(self.new), *columns.shape[1:])

    def scaled(self, sd: FloatArray, before: FloatArray) -> StateWeights:
        """The same for residuals with standard deviations of their own."""
        return replace(self, sd=(sd, before))


def state_weights(
    structure: ResidualStructure,
    params: FloatArray,
    observed: tuple[IntArray, FloatArray],
    asked: tuple[IntArray, FloatArray],
) -> tuple[StateWeights, FloatArray]:
    """
    Weights of observed residuals of variance one for new ones, by states.

    Parameters
    ----------
    structure : ResidualStructure
        With a state, and without a variance function.
    params : ndarray, shape (k_params,)
    observed : tuple of ndarray, of shapes (n,) and (n, 1 + c)
        Numbers of the series, increasing, and positions, by time in each.
    asked : tuple of ndarray, of shapes (k,) and (k, 1 + c)
        Numbers of the series, -1 where nothing was observed, and positions.

    Returns
    -------
    weights : StateWeights
    share : ndarray, shape (k,)
        Variance that remains.

    Raises
    ------
    StructureError
        If old and new rows together cannot have such correlations.
    TimeError
        If the structure knows no correlation at some distance.
    """
    (series, where), (wanted, there) = observed, asked
    u, n = structure.to_unconstrained(params), len(series)
    some = np.flatnonzero(wanted >= 0)
    every = np.concatenate([series, wanted[some]])
    positions = np.concatenate([where, there[some]])
    is_new = np.arange(len(every)) >= n
    order = np.lexsort((is_new, positions[:, 0], every))
    cells = _cells_of(structure, every[order], positions[order])
    states = cells.at(u, derivatives=False)
    merged = Predictions(states, seen=~is_new[order])
    alone = Predictions(_cells_of(structure, series, where).at(u, derivatives=False))
    place = np.empty(len(every), dtype=np.intp)
    place[order] = np.arange(len(every))
    new, share = np.full(len(wanted), -1), np.ones(len(wanted))
    new[some] = place[n:]
    share[some] = smoothed_variances(merged)[place[n:]]
    if share.min(initial=0.0) < -_NEGATIVE:
        raise StructureError(
            f"{structure.label} residuals: the correlations of the fit are not "
            "possible for the old and the new rows of a series together, only for the "
            "old ones; use level='group'"
        )
    sd = np.ones(len(wanted)), np.ones(n)
    weights = StateWeights(alone, merged, place[:n], new, sd)
    return weights, np.maximum(share, 0.0)


def _cells_of(
    structure: ResidualStructure, series: IntArray, positions: FloatArray
) -> NeighbourCells:
    """Rows by series and time; several of a series may share their time."""
    begins = np.diff(series, prepend=-1) != 0
    gaps = np.diff(positions[:, 0], prepend=0.0)
    return NeighbourCells(
        structure, np.where(begins, 0.0, gaps), positions[:, 1:], begins
    )
