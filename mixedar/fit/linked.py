"""
Rows that random effects link: the clusters of a fit, independent of one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.engine.groups import predictions_from
from mixedar.engine.linked import linked_levels
from mixedar.exceptions import shown
from mixedar.fit.fit import Fit


@dataclass(frozen=True)
class Clusters:
    """
    Sets of rows that are independent of one another under the model.

    Attributes
    ----------
    word : str
        ``"group"``, or with several factors the outermost; ``"cluster"`` if no factor
        has one level for each.
    labels : sequence
        One a cluster.
    codes : ndarray of int, shape (n,)
        Cluster of each row, in sorted order.
    of_groups : ndarray of int, shape (m,)
        Cluster of each group.
    """

    word: str
    labels: Sequence[Any]
    codes: IntArray
    of_groups: IntArray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def plural(self) -> str:
        """What there are several of, for a message."""
        if self.word == "group":
            return "groups"
        if self.word == "cluster":
            return "sets of levels that meet"
        return f"levels of {self.word}"

    def name(self, number: int) -> str:
        """A cluster's name for a message."""
        return f"{self.word} {shown(self.labels[number])}"


def linked_rows(fit: Fit, *, together: bool = False) -> Clusters:
    """
    The groups of a fit; with several factors, sets of levels that meet.

    Smooths are part of the mean, and levels that are not related to others are apart,
    unless either is to link all rows `together`.
    """
    data = fit.data
    related = any(between is not None for between in fit.related.of_levels)
    if together and (data.has_shared_smooths or related):
        none = np.zeros(data.nobs, dtype=np.intp)
        return Clusters("cluster", ["of all rows"], none, none[: data.n_groups])
    if not data.factor_terms:
        every = np.arange(data.n_groups)
        codes = np.repeat(every, data.grouped.sizes)
        return Clusters("group", data.group_labels, codes, every)
    factors, every_set = [data.codes], fit.related.sets
    for term, sets in zip(data.terms, every_set, strict=True):
        if not term.shared:
            factors.append(term.codes if sets is None else sets[term.codes])
    n, of_levels = linked_levels(factors)
    of_groups = of_levels[0]
    codes = data.grouped.sort(of_groups[data.codes])
    names = [data.groups_name, *(term.factor for term in data.factor_terms)]
    labels = [data.group_labels, *(term.levels.tolist() for term in data.factor_terms)]
    shared = [term.shared for term in data.terms]
    sets_of = [sets for sets, one in zip(every_set, shared, strict=True) if not one]
    for t, sets in enumerate(sets_of, start=1):
        if sets is not None:
            of_levels[t] = of_levels[t][sets]
    for name, own, of_level in zip(names, labels, of_levels, strict=True):
        if len(of_level) == n:
            return Clusters(
                name, [own[k] for k in np.argsort(of_level)], codes, of_groups
            )
    first = np.unique(of_groups, return_index=True)[1]
    meets = [f"of {data.groups_name} {shown(data.group_labels[k])}" for k in first]
    return Clusters("cluster", meets, codes, of_groups)


def group_levels(fit: Fit) -> pd.Index:
    """Labels of the groups; a MultiIndex for combinations of columns."""
    data = fit.data
    columns = data.groups_name.split(":")
    frame = data.frame
    if len(columns) > 1 and frame is not None and set(columns) <= set(frame.columns):
        first = np.unique(data.codes, return_index=True)[1]
        return pd.MultiIndex.from_frame(frame[columns].iloc[first])
    return data.group_index


def effects_from(fit: Fit, columns: FloatArray) -> FloatArray:
    """Groups' effects predicted from columns (n, k) for a response, (m, q, k)."""
    data = fit.data
    return predictions_from(
        data.grouped.sort(columns),
        data.grouped.sort(data.random_design),
        data.grouped,
        fit.structure,
        fit.u,
        fit.z_map,
        fit.factor,
    )


def exog_left(fit: Fit) -> FloatArray:
    """
    Fixed-effects design less what further terms' effects predict of it, shape (n, p).

    ``X_l = X - Z B`` with ``V^-1 X = H^-1 X_l``, where `H` has the groups' effects
    only; of the residuals ``y - X beta`` is left ``y`` less ``fit.fitted_terms``.
    """
    out = fit.data.exog.copy()
    for term, found in zip(fit.data.terms, fit.term_effects, strict=True):
        out -= np.einsum("nk,nkp->np", term.design, found.slopes[term.codes])
    return out
