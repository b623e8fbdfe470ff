"""
Pairs of observations of a series by their distance in space.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray
from mixedar.data.checks import check_finite, check_labels, check_lengths, float_array
from mixedar.data.variables import data_column
from mixedar.diagnostics.residuals.series import Pairs, SeriesRows, distance_label
from mixedar.exceptions import NotComputedError, UnsupportedError, check_choice
from mixedar.fit import Fit
from mixedar.residual.spatial import METRICS
from mixedar.residual.wrapped import innermost

# Pairs that are visited, and up to which all are, if no distance is named.
_MOST_VISITED = 50_000_000
_ALL_PAIRS = 4_000_000
# Numbers of a measure of pairs at a time, and pairs in a sample.
_AT_ONCE = 2**21
_SAMPLE = 100_000


@dataclass(frozen=True)
class Locations:
    """
    Coordinates of rows.

    Attributes
    ----------
    names : tuple of str
    values : ndarray, shape (n, c)
    metric : str
    """

    names: tuple[str, ...]
    values: FloatArray
    metric: str

    def pairs(self, rows: SeriesRows, limit: float, width: int) -> Iterator[Pairs]:
        """
        Pairs of rows of a series within a distance, and their distances.

        The coordinates are in the order of `rows`; `width` numbers are computed of
        each pair.
        """
        from scipy.spatial import cKDTree

        order, at_once = METRICS[self.metric], max(_AT_ONCE // width, 1)
        for start, length in zip(rows.starts, rows.lengths, strict=True):
            if length == 1:
                continue
            here = self.values[start : start + length]
            tree = cKDTree(here)
            if length * (length - 1) // 2 > _MOST_VISITED:
                count = (int(tree.count_neighbors(tree, limit, order)) - length) // 2
                if count > _MOST_VISITED:
                    raise NotComputedError(
                        f"{count} pairs of a series are within max_distance={limit:g}; "
                        "ask for a shorter distance"
                    )
            found = tree.query_pairs(limit, order, output_type="ndarray")
            for first in range(0, len(found), at_once):
                one, other = found[first : first + at_once].T
                apart = np.linalg.norm(here[other] - here[one], order, axis=1)
                yield other + start, one + start, np.asarray(apart)

    def limit(self, rows: SeriesRows) -> float:
        """The distance within which there are not too many pairs."""
        count = rows.lengths.astype(np.float64)
        total = count * (count - 1.0) / 2.0
        share = _ALL_PAIRS / total.sum()
        if share >= 1.0:
            return self.farthest(rows)
        rng = np.random.default_rng(0)
        which = rng.choice(len(count), _SAMPLE, p=total / total.sum())
        one, other = (
            rows.starts[which] + rng.integers(0, rows.lengths[which]) for _ in range(2)
        )
        apart = np.linalg.norm(
            self.values[one] - self.values[other], METRICS[self.metric], axis=1
        )
        return float(np.quantile(apart[one != other], share))

    def farthest(self, rows: SeriesRows) -> float:
        """A distance that no two rows of a series exceed."""
        low, high = (
            np.asarray(f.reduceat(self.values, rows.starts))
            for f in (np.minimum, np.maximum)
        )
        return float(np.linalg.norm(high - low, METRICS[self.metric], axis=1).max())


def places_of(fit: Fit, coords: Any, metric: str | None) -> Locations | None:
    """
    Coordinates of the rows of a fit, in the order of the data.

    Parameters
    ----------
    fit : Fit
    coords : str, sequence of str, array_like of shape (n, c), or None
        None stands for those of the residual structure, if the model has no times.
    metric : str or None
        None stands for the structure's.

    Returns
    -------
    Locations or None
        None if distances are those in time.
    """
    own = innermost(fit.structure)
    if metric is None:
        metric = getattr(own, "metric", "euclidean")
    names = coords
    if coords is None:
        names = () if fit.data.time is not None else getattr(own, "coords", ())
    if isinstance(names, str):
        names = (names,)
    if not len(names):
        return None
    if not isinstance(names, (tuple, list)) or not isinstance(names[0], str):
        return places_from(names, fit.nobs, metric, fit.data.index)
    known = fit.data.residual_data
    columns = [
        pd.Series(known[name])
        if name in known
        else data_column(fit.data, name, "coords")
        for name in names
    ]
    frame = pd.DataFrame(
        {n: np.asarray(c) for n, c in zip(names, columns, strict=True)}
    )
    return places_from(frame, fit.nobs, metric, None)


def places_from(coords: Any, n: int, metric: str, index: pd.Index | None) -> Locations:
    """A user's coordinates, shape (n,) or (n, c), of rows with these labels."""
    check_choice("metric", metric, tuple(METRICS))
    if index is not None:
        check_labels("coords", coords, index, "values")
    names = [str(name) for name in getattr(coords, "columns", ())]
    values = float_array(coords, "coords")
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.shape[1]:
        raise UnsupportedError(
            f"coords has the shape {values.shape}; pass one column for each coordinate"
        )
    check_lengths(n, coords=values)
    names = names or [f"coordinate {k + 1}" for k in range(values.shape[1])]
    labelled = isinstance(coords, (pd.DataFrame, pd.Series))
    check_finite(values, names, "the", coords.index if labelled else None)
    return Locations(tuple(names), values, metric)


def variogram_label(fit: Fit, coords: Any = None) -> str:
    """The name of an axis of distances, in space or in time."""
    places = places_of(fit, coords, None)
    if places is None:
        return distance_label(fit, "Distance")
    return f"Distance ({', '.join(places.names)})"
