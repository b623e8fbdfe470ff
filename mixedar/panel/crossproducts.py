"""
A panel as sums of cross-products within and between entities.

Everything that random and fixed effects need of the data is, for each entity,
the cross-products of its deviations from its means, the means, and its number of
observations.  Estimates for entities that are drawn repeatedly are then weighted
sums, so that a bootstrap never touches the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixedar.panel.auxiliary import RANK_TOLERANCE, independent_columns, r_factor
from mixedar.panel.data import PanelData

__all__ = ["EntityProducts", "SizeClass", "WeightedProducts", "entity_products"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class SizeClass:
    """
    The entities with one number of observations.

    Attributes
    ----------
    size : int
        Observations of each.
    entities : ndarray of int, shape (m,)
    between : ndarray, shape (m, q)
        Packed outer products of the means of (x, y).
    """

    size: int
    entities: IntArray
    between: FloatArray


@dataclass(frozen=True)
class EntityProducts:
    """
    Cross-products of each entity.

    Attributes
    ----------
    within : ndarray, shape (N, q)
        Packed cross-products of the deviations of (x, y) from entity means.
    classes : tuple of SizeClass
        Ascending in size.
    scale : ndarray, shape (k + 1,)
        Columns were divided by this; the response is the last one.
    within_kept, between_kept, kept : ndarray of int
        Columns that are independent of earlier ones within entities, between
        entities, and at all.
    sizes : ndarray of int, shape (N,)
    """

    within: FloatArray
    classes: tuple[SizeClass, ...]
    scale: FloatArray
    within_kept: IntArray
    between_kept: IntArray
    kept: IntArray
    sizes: IntArray

    @property
    def width(self) -> int:
        """Number of columns with the response, k + 1."""
        return len(self.scale)

    def weighted(self, weights: FloatArray) -> WeightedProducts:
        """
        Sum over entities.

        Parameters
        ----------
        weights : ndarray, shape (B, N)
            How often each entity counts, in each of B replicates.

        Returns
        -------
        WeightedProducts
        """
        width = self.width
        single = len(self.classes) == 1
        counts, between = [], []
        for group in self.classes:
            part = weights if single else weights[:, group.entities]
            counts.append(part.sum(axis=1))
            between.append(_unpack(part @ group.between, width))
        return WeightedProducts(
            within=_unpack(weights @ self.within, width),
            between=np.stack(between, axis=1),
            counts=np.stack(counts, axis=1),
            sizes=np.array([group.size for group in self.classes], dtype=np.float64),
        )


@dataclass(frozen=True)
class WeightedProducts:
    """
    Sums of cross-products in B replicates, by C sizes of entities.

    Attributes
    ----------
    within : ndarray, shape (B, k + 1, k + 1)
    between : ndarray, shape (B, C, k + 1, k + 1)
        Of means, each entity counted once.
    counts : ndarray, shape (B, C)
        Number of entities.
    sizes : ndarray, shape (C,)
        Observations of an entity.
    """

    within: FloatArray
    between: FloatArray
    counts: FloatArray
    sizes: FloatArray

    def quasi_demeaned(self, ratio: FloatArray) -> FloatArray:
        """
        Cross-products of quasi-demeaned data.

        Parameters
        ----------
        ratio : ndarray, shape (B,)
            Variance of the effects over that of the errors.

        Returns
        -------
        ndarray, shape (B, k + 1, k + 1)
        """
        # (1 - theta)^2 T = T / (1 + T ratio)
        share = self.sizes / (1.0 + self.sizes * ratio[:, None])
        return self.within + np.einsum("bc,bcij->bij", share, self.between)


def entity_products(
    panel: PanelData, columns: IntArray, constant: int | None
) -> EntityProducts:
    """
    Form the cross-products of a panel.

    Parameters
    ----------
    panel : PanelData
    columns : ndarray of int, shape (k,)
        Columns of ``panel.x`` to use.
    constant : int or None
        Position of the constant among them.  With one, the others are centred,
        which changes no slope and saves digits.

    Returns
    -------
    EntityProducts
    """
    data = np.column_stack([panel.x[:, columns], panel.y])
    if constant is not None:
        shift = data.mean(axis=0)
        shift[constant] = 0.0
        data -= shift
    scale = np.sqrt((data**2).mean(axis=0))
    scale = np.where(scale > 0.0, scale, 1.0)
    data /= scale
    means = panel.entity_means(data)
    data -= panel.spread_out(means)
    rows, cols = np.triu_indices(data.shape[1])
    within = np.empty((panel.n_entities, len(rows)))
    for position, (i, j) in enumerate(zip(rows, cols, strict=True)):
        within[:, position] = panel.entity_sums(data[:, i] * data[:, j])
    sizes = panel.sizes
    classes = []
    for size in np.unique(sizes):
        members = np.flatnonzero(sizes == size)
        part = means[members]
        classes.append(SizeClass(int(size), members, part[:, rows] * part[:, cols]))
    root = np.sqrt(panel.nobs)
    inside = r_factor(data[:, :-1] / root)
    weights = np.sqrt(sizes / panel.nobs)[:, None]
    outside = r_factor(means[:, :-1] * weights)
    return EntityProducts(
        within=within,
        classes=tuple(classes),
        scale=scale,
        within_kept=_kept(inside),
        between_kept=_kept(outside),
        kept=_kept(np.concatenate([inside, outside])),
        sizes=sizes,
    )


def _kept(triangle: FloatArray) -> IntArray:
    return np.flatnonzero(independent_columns(triangle, RANK_TOLERANCE))


def _unpack(packed: FloatArray, width: int) -> FloatArray:
    """Symmetric matrices from their upper triangles, shape (B, width, width)."""
    rows, cols = np.triu_indices(width)
    out = np.empty((len(packed), width, width))
    out[:, rows, cols] = packed
    out[:, cols, rows] = packed
    return out
