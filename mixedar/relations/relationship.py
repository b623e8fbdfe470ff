"""
Known relationships of levels: matrices, their inverses, and pedigrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from mixedar._lazy import class_with_near_names, with_near_names
from mixedar._types import FloatArray, IntArray, without_mask
from mixedar.exceptions import (
    LengthError,
    StructureError,
    UnsupportedError,
    shown,
)
from mixedar.relations.base import (
    MOST,
    KnownCovariance,
    LevelCovariance,
    SparsePrecision,
)
from mixedar.relations.labelled import LabelledMatrix, LabelledRelation

_NEGATIVE = 1e-8  # an eigenvalue, relative to the largest
_SPARSE = 500  # from so many on a precision stays sparse


@class_with_near_names
class Relationship(LabelledRelation):
    """
    A known covariance between the levels of a factor.

    Written in a formula as ``(1 | gr(animal, cov=A))``: ``Var(u) = variance * K``.
    Nothing is rescaled: where the diagonal of `K` is not one, as with inbreeding, the
    variance is that of a level with a diagonal of one.

    Parameters
    ----------
    K : DataFrame, array_like or sparse matrix, shape (n, n), optional
        Symmetric and positive semidefinite; a DataFrame has the levels as index and
        columns.
    precision : DataFrame, array_like or sparse matrix, shape (n, n), optional
        The inverse of `K`, in its place.
    labels : sequence, optional
        Levels, if the matrix has no labels of its own.

    Raises
    ------
    StructureError
        If labels are missing or double, or the matrix is not symmetric.
    UnsupportedError
        Unless one of `K` and `precision` is given.

    See Also
    --------
    CAR, ICAR : Neighbours.
    Field : Places.

    References
    ----------
    Henderson, C. R. (1976), A simple method for computing the inverse of a numerator
    relationship matrix used in prediction of breeding values, Biometrics 32, 69-83.

    Examples
    --------
    >>> import pandas as pd
    >>> from mixedar.api import Relationship
    >>> names = ["a", "b"]
    >>> Relationship(pd.DataFrame([[1, 0.5], [0.5, 1]], index=names, columns=names))
    Relationship of 2 levels
    """

    def __init__(
        self, K: Any = None, *, precision: Any = None, labels: Any = None
    ) -> None:
        if (K is None) == (precision is None):
            raise UnsupportedError("Relationship: pass either a matrix or precision=")
        given, what = (K, "K") if precision is None else (precision, "precision")
        super().__init__(LabelledMatrix.of(given, labels, f"Relationship: {what}"))
        self._inverse = precision is not None

    @classmethod
    @with_near_names
    def from_pedigree(
        cls,
        id: ArrayLike,  # noqa: A002  the field's name
        sire: ArrayLike,
        dam: ArrayLike,
    ) -> Relationship:
        """
        The numerator relationship of the animals of a pedigree.

        Twice the coancestry, with inbreeding; held as its sparse inverse.

        Parameters
        ----------
        id, sire, dam : array_like, shape (n,)
            Animals and their parents, in any order; missing values, and parents named
            ``""`` or ``"0"``, are unknown.  Parents without a row of their own are
            founders.

        Returns
        -------
        Relationship

        Raises
        ------
        StructureError
            If an animal stands twice, or is its own ancestor.

        References
        ----------
        Henderson (1976), as above; Quaas, R. L. (1976), Computing the diagonal elements
        and inverse of a large numerator relationship matrix, Biometrics 32, 949-953;
        Meuwissen, T. H. E. and Luo, Z. (1992), Computing inbreeding coefficients in
        large populations, Genetics Selection Evolution 24, 305-313.

        Examples
        --------
        >>> from mixedar.api import Relationship
        >>> family = Relationship.from_pedigree(
        ...     ["a", "b", "c", "d"], [None, None, "a", "a"], [None, None, "b", "c"]
        ... )
        >>> float(family.inbreeding["d"])
        0.25
        """
        labels, parents = _pedigree({"id": id, "sire": sire, "dam": dam})
        coefficients = inbreeding(parents)
        out = cls(precision=inverse_relationship(parents, coefficients), labels=labels)
        out.__dict__["inbreeding"] = pd.Series(coefficients, labels, name="inbreeding")
        return out

    @cached_property
    def inbreeding(self) -> pd.Series:
        """Diagonal of ``K`` less one, by level."""
        rows = np.arange(len(self._matrix.labels))
        values = np.diag(self._covariance(rows)) - 1.0
        return pd.Series(values, self._matrix.labels, name="inbreeding")

    @cached_property
    def _whole(self) -> FloatArray:
        """The inverse of the precision."""
        n = len(self._matrix.labels)
        if n > MOST:
            raise UnsupportedError(
                f"Relationship: the inverse of a precision of {n:,} levels is beyond "
                f"{MOST:,}; leave out levels without rows and without relatives"
            )
        dense = self._matrix.values.toarray()
        try:
            return np.asarray(cho_solve(cho_factor(dense), np.eye(n)))
        except LinAlgError:
            low = float(np.linalg.eigvalsh(dense)[0])
            raise StructureError(
                f"Relationship: precision is not positive definite, its smallest "
                f"eigenvalue is {low:.3g}; for the Laplacian of a graph use ICAR(W)"
            ) from None

    def _covariance(self, rows: IntArray) -> FloatArray:
        if self._inverse:
            return self._whole[np.ix_(rows, rows)]
        return self._matrix.dense(rows)

    def bind(
        self, levels: pd.Index, factor: str, places: Any, like: Any = None
    ) -> LevelCovariance:
        rows = self._matrix.numbers(levels, factor)
        if self._inverse and len(self._matrix.labels) > _SPARSE:
            known, sizes = self.__dict__.get("inbreeding"), None
            if known is not None:
                sizes = 1.0 + known.to_numpy()[rows]
            precision = self._matrix.values.tocsc()
            return SparsePrecision(precision, rows, self._matrix.what, sizes)
        values = self._covariance(rows)
        if not values.any():
            raise StructureError(
                f"{self._matrix.what} is zero between the levels of {factor!r}: they "
                "would have no effects"
            )
        check_semidefinite(values, self._matrix.what)
        return KnownCovariance(values)


def check_semidefinite(values: FloatArray, what: str) -> None:
    """Raise if a covariance has a negative eigenvalue."""
    try:
        np.linalg.cholesky(values)
    except np.linalg.LinAlgError:
        found = np.linalg.eigvalsh(values)
        if found[0] < -_NEGATIVE * found[-1]:
            count = int((found < -_NEGATIVE * found[-1]).sum())
            raise StructureError(
                f"{what} is no covariance: {count} of its {len(found)} eigenvalues are "
                f"negative, the smallest {found[0]:.3g} (the largest {found[-1]:.3g})"
            ) from None


def _pedigree(given: Mapping[str, ArrayLike]) -> tuple[pd.Index, IntArray]:
    """Labels, parents before their offspring, and numbers of the parents, (n, 2)."""
    sizes = {name: len(np.asarray(values)) for name, values in given.items()}
    if len(set(sizes.values())) > 1:
        raise LengthError(f"from_pedigree: lengths differ: {sizes}")
    frame = pd.DataFrame(
        {
            name: np.asarray(without_mask(values), dtype=object)
            for name, values in given.items()
        }
    )
    if frame["id"].isna().any():
        raise StructureError("from_pedigree: id has missing values")
    if frame["id"].duplicated().any():
        twice = frame["id"][frame["id"].duplicated()].iloc[0]
        raise StructureError(f"from_pedigree: {shown(twice)} stands twice in id")
    known = dict.fromkeys(frame["id"])
    each = []
    for name in ("sire", "dam"):
        column = frame[name]
        unknown = column.isna() | column.isin(["", "0"])
        if not any(value == 0 for value in known):
            unknown |= column.map(lambda value: isinstance(value, Real) and value == 0)
        each.append(column.where(~unknown, None))
        known.update(dict.fromkeys(column[~unknown]))
    labels = pd.Index(list(known), tupleize_cols=False)
    parents = np.full((len(labels), 2), -1, dtype=np.intp)
    for k, column in enumerate(each):
        here = column.notna().to_numpy()
        parents[: len(frame)][here, k] = labels.get_indexer(column[here])
    return _in_order(labels, parents)


def _in_order(labels: pd.Index, parents: IntArray) -> tuple[pd.Index, IntArray]:
    """Parents before their offspring, by generations."""
    generation = np.zeros(len(labels), dtype=np.intp)
    for _ in range(len(labels) + 1):
        above = np.where(parents >= 0, generation[parents] + 1, 0).max(axis=1)
        if (above == generation).all():
            break
        generation = above
    else:
        loop = labels[int(generation.argmax())]
        raise StructureError(f"from_pedigree: {shown(loop)} is its own ancestor")
    order = np.argsort(generation, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    moved = parents[order]
    return labels[order], np.where(moved >= 0, place[moved], -1)


def inbreeding(parents: IntArray) -> FloatArray:
    """
    Inbreeding coefficients, by tracing the ancestors of each pair of parents.

    Parameters
    ----------
    parents : ndarray of int, shape (n, 2)
        Numbers of the parents, which stand before their offspring; -1 for unknown.

    Returns
    -------
    ndarray, shape (n,)
    """
    n = len(parents)
    out = np.zeros(n + 1)
    out[n] = -1.0  # of an unknown parent
    own = np.empty(n)  # Mendelian sampling variance
    seen: dict[tuple[int, int], float] = {}
    pairs = parents.tolist()
    for i, (a, b) in enumerate(pairs):
        own[i] = 0.5 - 0.25 * (out[a] + out[b])
        if a < 0 or b < 0:
            continue
        key = (min(a, b), max(a, b))
        if key not in seen:
            seen[key] = _diagonal(pairs, own, i) - 1.0
        out[i] = seen[key]
    return out[:n]


def _diagonal(pairs: list[list[int]], own: FloatArray, animal: int) -> float:
    """The relationship of an animal with itself (Meuwissen and Luo, 1992)."""
    share, total = {animal: 1.0}, 0.0
    while share:
        youngest = max(share)
        part = share.pop(youngest)
        total += part * part * own[youngest]
        for parent in pairs[youngest]:
            if parent >= 0:
                share[parent] = share.get(parent, 0.0) + 0.5 * part
    return total


def inverse_relationship(
    parents: IntArray, coefficients: FloatArray
) -> sparse.csr_array:
    """Henderson's inverse, ``(I - P)' D^-1 (I - P)``, sparse, shape (n, n)."""
    n = len(parents)
    padded = np.append(coefficients, -1.0)
    own = 0.5 - 0.25 * padded[parents].sum(axis=1)
    rows, which = np.nonzero(parents >= 0)
    descent = sparse.csr_array(
        (np.full(len(rows), 0.5), (rows, parents[rows, which])), shape=(n, n)
    )
    step = sparse.eye_array(n, format="csr") - descent
    return sparse.csr_array(step.T @ sparse.diags_array(1.0 / own) @ step)
