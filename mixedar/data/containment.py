"""
Containment ("inner-outer") denominator degrees of freedom, as nlme.

A column of the fixed-effects design is estimated in the stratum of the
innermost grouping level within whose groups it varies; a stratum has as many
degrees of freedom as it has units, less the units of the stratum outside it,
less the columns estimated in it (Pinheiro and Bates, 2000, page 91).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mixedar._types import BoolArray, FloatArray, IntArray


def containment_df(
    exog: FloatArray, levels: Sequence[IntArray], has_random_effects: bool = True
) -> FloatArray:
    """
    Denominator degrees of freedom of each fixed-effects column.

    Parameters
    ----------
    exog : ndarray, shape (n, p)
        Fixed-effects design.
    levels : sequence of ndarray of int, each of shape (n,)
        Codes ``0 ... m - 1`` of nested grouping levels, outermost first.
    has_random_effects : bool
        Without random effects every column has ``n - p``.

    Returns
    -------
    ndarray, shape (p,)
        May be zero or negative where a stratum is exhausted; no t test
        exists there.
    """
    n, p = exog.shape
    counts = [int(codes.max()) + 1 for codes in levels]
    kept = [k for k, count in enumerate(counts) if count > 1]
    if not has_random_effects or not kept:
        return np.full(p, float(n - p))
    strata = [counts[k] for k in kept] + [n]
    constant = np.array(
        [bool((exog[:, j] == exog[0, j]).all()) for j in range(p)], dtype=bool
    )
    stratum = np.full(p, len(strata) - 1)
    # from the inside out: a column constant within the groups of a level is
    # estimated at that level or further out
    for position in range(len(kept) - 1, -1, -1):
        here = np.flatnonzero(~constant & (stratum == position + 1))
        stratum[here[constant_within(exog[:, here], levels[kept[position]])]] = position
    outside = 1 if constant.any() else 0
    df = np.empty(len(strata))
    for position, units in enumerate(strata):
        estimated = int(((stratum == position) & ~constant).sum())
        # nlme counts one more inside the outermost level without an intercept
        quirk = 1 if position > 0 and not constant.any() else 0
        df[position] = units - outside - estimated + quirk
        outside = units
    result = df[stratum]
    result[constant] = df.max()
    return result


def constant_within(columns: FloatArray, codes: IntArray) -> BoolArray:
    """Which columns vary in no group, shape (p,)."""
    n, p = columns.shape
    first = np.empty(int(codes.max()) + 1, dtype=np.intp)
    first[codes[::-1]] = np.arange(n - 1, -1, -1)
    same = [bool((columns[:, j] == columns[first, j][codes]).all()) for j in range(p)]
    return np.array(same, dtype=bool)


def nested_levels(
    groups: IntArray, inner: Sequence[IntArray], factors: Sequence[IntArray] = ()
) -> list[IntArray]:
    """
    Grouping levels, outermost first, each nested in the one before.

    Parameters
    ----------
    groups : ndarray of int, shape (n,)
        Codes of the groups.
    inner : sequence of ndarray of int
        Codes of further factors, within groups; crossed factors, and those
        with one unit a row, are left out.
    factors : sequence of ndarray of int
        Codes of further factors that groups may be nested in.

    Returns
    -------
    list of ndarray of int
    """
    levels: list[IntArray] = []
    for codes in sorted(factors, key=lambda codes: int(codes.max())):
        chain = all(is_nested(codes, outer) for outer in levels[-1:])
        if chain and is_nested(groups, codes) and codes.max() < groups.max():
            levels.append(codes)
        elif not is_nested(groups, codes):
            inner = [*inner, codes]
    levels.append(groups)
    candidates = []
    for codes in inner:
        key = groups.astype(np.int64) * (int(codes.max()) + 1) + codes
        unique, combined = np.unique(key, return_inverse=True)
        candidates.append((len(unique), combined))
    candidates.sort(key=lambda item: item[0])
    for k, (count, codes) in enumerate(candidates):
        if count >= len(groups) or count <= int(levels[-1].max()) + 1:
            continue
        others = [other for j, (_, other) in enumerate(candidates) if j != k]
        if all(
            is_nested(codes, o) or is_nested(o, codes) for o in [levels[-1], *others]
        ):
            levels.append(codes)
    return levels


def is_nested(inner: IntArray, outer: IntArray) -> bool:
    """Whether every unit of one factor lies in a single unit of another."""
    parent = np.empty(int(inner.max()) + 1, dtype=np.intp)
    parent[inner] = outer
    return bool((parent[inner] == outer).all())


def absorbed_columns(
    exog: FloatArray, columns: FloatArray, groups: IntArray
) -> dict[int, IntArray]:
    """
    Random-effects columns that fixed effects span, group by group, and which do.

    The restricted likelihood does not depend on the variance of such an effect: it
    is that of contrasts from which the fixed effects are removed.

    Parameters
    ----------
    exog : ndarray, shape (n, p)
        Of full rank.
    columns : ndarray, shape (n, q)
    groups : ndarray of int, shape (n,)
        Codes ``0 ... m - 1``.

    Returns
    -------
    dict of int to ndarray of int
    """
    count = int(groups.max()) + 1
    if exog.shape[1] < count:  # the columns of different groups are independent
        return {}
    basis, root = np.linalg.qr(exog)
    found = {}
    for j, column in enumerate(columns.T):
        size = np.bincount(groups, column**2, minlength=count)
        inside = np.zeros((count, exog.shape[1]))
        np.add.at(inside, groups, basis * column[:, None])
        outside = size - (inside**2).sum(axis=1)
        if size.any() and (outside <= 1e-9 * size.max()).all():
            shares = np.abs(np.linalg.solve(root, inside.T)).max(axis=1)
            found[j] = np.flatnonzero(shares > 1e-8 * shares.max())
    return found
