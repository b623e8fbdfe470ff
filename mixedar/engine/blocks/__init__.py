"""
Cross-products of whitened rows, as functions of the residual parameters.

For each cluster the mixed-model algebra needs ``M = Z'R^-1 Z``,
``N = Z'R^-1 W`` and, summed over clusters, ``G = W'R^-1 W`` and ``log|R|``.
For Markov structures these are linear in few functions of the parameter (see
:mod:`mixedar.residual.markov`), so the products of rows are formed once:
per cluster and distinct gap where gaps repeat, so that a long series costs no
more than a short one, and otherwise row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from mixedar.engine.blocks.base import LikelihoodBlock, ProductBlock
from mixedar.engine.blocks.dense import CovarianceBlock
from mixedar.engine.blocks.even import EvenBlock, at_every_step
from mixedar.engine.blocks.grid import with_groups_summed
from mixedar.engine.blocks.markov import GapBlock, LongBlock, RowBlock
from mixedar.engine.blocks.scaled import ScaledBlock
from mixedar.engine.blocks.series import SeriesBlock, matrix_blocks
from mixedar.engine.blocks.short import DenseBlock
from mixedar.engine.blocks.states import StateBlock, states_pay
from mixedar.engine.compress import ClusterRows, compress
from mixedar.engine.residuals import (
    correlation_of,
    is_independent,
    markov_of,
    variance_of,
)
from mixedar.exceptions import UnsupportedError
from mixedar.residual import Independent, ResidualStructure

# Covariance matrices are written out for clusters of so many rows, ...
_DENSE_ROWS = 12
# ... as long as all matrices together have so many entries, ...
_DENSE_NUMBERS = 2**15
# ... and the products of pairs of rows so many.
_DENSE_PRODUCTS = 2**22
# Beyond so many rows of a cluster, or entries of all matrices, those of a
# tridiagonal precision are not written out.
_LONG_DENSE = 40
_MANY_DENSE = 2**13
# Blocks by set of distinct gaps pay as long as there are few such sets.
_MAX_GAP_SETS = 24
# From this mean number of rows a matrix product for each cluster pays.
_LONG = 200


def product_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> Sequence[ProductBlock]:
    """
    Prepare the products of rows that a residual structure calls for.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure

    Returns
    -------
    list of ProductBlock
        Together they hold every cluster once.

    Raises
    ------
    UnsupportedError
        If no block knows how to whiten for the structure.
    """
    everyone = np.arange(rows.n_clusters)
    if isinstance(structure, Independent):
        return [GapBlock(rows, everyone, None, np.empty(0))]
    markov = markov_of(structure)
    if markov is None:
        raise UnsupportedError(
            f"residual structure {structure.label!r} is not first-order Markov: it "
            "has no moments that are linear in few functions of its parameters"
        )
    inside = rows.gaps > 0.0
    distinct, class_of_gap = np.unique(rows.gaps[inside], return_inverse=True)
    sizes = np.diff(rows.offsets)
    if len(distinct) <= 62:
        present = np.zeros(len(rows.gaps), dtype=np.int64)
        present[inside] = np.left_shift(np.int64(1), class_of_gap)
        sets = np.bitwise_or.reduceat(present, rows.offsets[:-1])
        unique_sets, set_of_cluster = np.unique(sets, return_inverse=True)
        n_gaps = np.array([int(s).bit_count() for s in unique_sets])
        cost = float((1 + 2 * n_gaps[set_of_cluster]).sum())
        if len(unique_sets) <= _MAX_GAP_SETS and cost <= 2.0 * sizes.sum():
            blocks: list[ProductBlock] = []
            for k, bits in enumerate(unique_sets):
                gaps = distinct[[i for i in range(len(distinct)) if bits >> i & 1]]
                members = np.flatnonzero(set_of_cluster == k)
                blocks.append(GapBlock(rows, members, markov, gaps))
            return blocks
    if sizes.sum() >= _LONG * rows.n_clusters:
        return [LongBlock(rows, everyone, markov)]
    return [RowBlock(rows, everyone, markov)]


def likelihood_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> Sequence[LikelihoodBlock]:
    """
    Blocks for the cheapest evaluation of the likelihood.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure

    Returns
    -------
    list of LikelihoodBlock
        One dense block where clusters are short and their patterns few.
    """
    markov = markov_of(structure)
    if markov is None and not isinstance(structure, Independent):
        return _formula_blocks(rows, structure)
    longest = int(np.diff(rows.offsets).max())
    # a pattern begins where a weight is not zero
    starts = np.flatnonzero(rows.weights > 0.0)
    entries = len(starts) * longest**2
    few = entries <= _DENSE_NUMBERS
    few &= entries * rows.w.shape[1] ** 2 <= _DENSE_PRODUCTS
    if longest > _DENSE_ROWS or not few:
        return product_blocks(rows, structure)
    patterns = np.split(np.arange(rows.n_clusters), starts[1:])
    by_products = partial(product_blocks, rows, structure)
    return [DenseBlock(rows, patterns, markov, by_products)]


def compressed_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> Sequence[LikelihoodBlock]:
    """Blocks of clusters that are compressed first."""
    w = rows.w
    whole = compress(rows.z, w[:, :-1], w[:, -1], rows.gaps, rows.offsets, rows.marks)
    if markov_of(structure) or is_independent(structure):
        return product_blocks(whole, structure)
    return likelihood_blocks(whole, structure)


def _formula_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> Sequence[LikelihoodBlock]:
    """Blocks for structures that are not first-order Markov with one variance."""
    longest = int(np.diff(rows.offsets).max())
    patterns = np.diff(rows.offsets)[rows.weights > 0.0]
    many = longest > _LONG_DENSE or (patterns**2).sum() > _MANY_DENSE
    scaled = scaled_block(rows, structure) if many else None
    if scaled is not None:
        return [scaled]
    return with_groups_summed(rows, structure, curvature_blocks(rows, structure))


def scaled_block(rows: ClusterRows, structure: ResidualStructure) -> ScaledBlock | None:
    """
    One block, if rows have standard deviations and neighbours tell everything else.

    None otherwise.
    """
    inner = correlation_of(structure)
    markov = markov_of(inner)
    if variance_of(structure) is None or not (markov or is_independent(inner)):
        return None
    return ScaledBlock(rows, structure, markov)


def curvature_blocks(
    rows: ClusterRows, structure: ResidualStructure
) -> Sequence[CovarianceBlock | SeriesBlock | StateBlock]:
    """
    Blocks that know the second derivatives of ``R`` by themselves.

    Parameters
    ----------
    rows : ClusterRows
    structure : ResidualStructure

    Returns
    -------
    list of LikelihoodBlock
        One of recursions from row to row where that is less work than matrices.

    Raises
    ------
    StructureError
        If the matrices would be too large.
    """
    if states_pay(rows, structure):
        even = at_every_step(rows, structure)
        return [(EvenBlock if even else StateBlock)(rows, structure)]
    return matrix_blocks(rows, structure)


__all__ = [
    "LikelihoodBlock",
    "ProductBlock",
    "ScaledBlock",
    "compressed_blocks",
    "curvature_blocks",
    "likelihood_blocks",
    "product_blocks",
    "scaled_block",
]
