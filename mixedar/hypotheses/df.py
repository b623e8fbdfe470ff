"""
Degrees of freedom as users name them, and what a method of them answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from mixedar._types import BoolArray, FloatArray, IntArray
from mixedar.exceptions import UnsupportedError, check_choice

#: The methods, and what summaries call them.
METHODS = {
    "containment": "containment",
    "between-within": "between-within",
    "residual": "residual",
    "satterthwaite": "Satterthwaite",
    "kenward-roger": "Kenward-Roger",
    "normal": "none (normal)",
}
_ALIASES = {
    "bw": "between-within",
    "betwithin": "between-within",
    "kr": "kenward-roger",
    "kenwardroger": "kenward-roger",
    "satterth": "satterthwaite",
    "z": "normal",
}


@dataclass(frozen=True)
class DFMethod:
    """
    A method of degrees of freedom with its options.

    Parameters
    ----------
    name : str
        A key of :data:`METHODS`, or ``"given"``.
    kr : {"full", "linear"}
        Kenward-Roger with or without the second derivatives of ``V``.
    information : {"observed", "expected"}
        Information of the covariance parameters that Satterthwaite's and
        Kenward and Roger's methods invert.
    value : float
        Degrees of freedom of ``"given"``.
    """

    name: str
    kr: str = ""
    information: str = ""
    value: float = np.nan

    @property
    def label(self) -> str:
        """The name that summaries print, with its options."""
        if self.name == "given":
            return f"{self.value:g}"
        label = METHODS[self.name]
        if self.name == "kenward-roger":
            return f"{label} ({self.kr}, {self.information} information)"
        if self.name == "satterthwaite" and self.information != "observed":
            return f"{label} ({self.information} information)"
        return label


def resolve_df(
    df: str | float | DFMethod, kr: str | None = None, information: str | None = None
) -> DFMethod:
    """
    A method from what a user wrote.

    Parameters
    ----------
    df : str, float or DFMethod
        The name of a method, or degrees of freedom themselves.
    kr : {"full", "linear"}, optional
        Linear by default, which keeps its level where the full correction does
        not, exists where that has no positive definite covariance, and does not
        depend on the unit of time.
    information : {"observed", "expected"}, optional
        By default observed for Satterthwaite (as lmerTest), expected for linear
        Kenward-Roger (as pbkrtest) and observed for the full one (as SAS unless
        told ``scoring``).

    Returns
    -------
    DFMethod

    Raises
    ------
    UnsupportedError
        For unknown names, and options that the method does not have.
    """
    if isinstance(df, DFMethod):
        if df.name == "given":
            return df
        return resolve_df(
            df.name, kr or df.kr or None, information or df.information or None
        )
    if isinstance(df, (int, float, np.number)) and not isinstance(df, bool):
        if not float(df) > 0.0:
            raise UnsupportedError(f"df={df!r}: degrees of freedom are positive")
        method = DFMethod("given", value=float(df))
    else:
        name = str(df).strip().lower().replace("_", "-").replace(" ", "-")
        name = _ALIASES.get(name, name)
        if not isinstance(df, str) or name not in METHODS:
            raise UnsupportedError(
                f"df={df!r} is not a method of degrees of freedom; choose one of "
                f"{', '.join(METHODS)}, or give a positive number"
            )
        method = DFMethod(name)
    if kr is not None and method.name != "kenward-roger":
        raise UnsupportedError(f"kr={kr!r} is an option of df='kenward-roger' only")
    if method.name not in ("kenward-roger", "satterthwaite"):
        if information is not None:
            raise UnsupportedError(
                f"information={information!r} is an option of df='satterthwaite' and "
                "df='kenward-roger' only"
            )
        return method
    if method.name == "kenward-roger":
        kr = "linear" if kr is None else kr
        check_choice("kr", kr, ("full", "linear"))
    if information is None:
        information = "expected" if kr == "linear" else "observed"
    check_choice("information", information, ("observed", "expected"))
    if method.name == "satterthwaite":
        return DFMethod(method.name, information=information)
    return DFMethod(method.name, str(kr), information)


#: nlme's rule.
CONTAINMENT = DFMethod("containment")


class JointDF(NamedTuple):
    """
    Reference distribution of a joint F statistic.

    Attributes
    ----------
    df : float
        Denominator degrees of freedom.
    scaling : float
        Factor of the F statistic (Kenward and Roger's lambda).
    """

    df: float
    scaling: float


class ContrastMethod(ABC):
    """
    Covariance of the fixed effects, and degrees of freedom of contrasts.

    Attributes
    ----------
    cov : ndarray, shape (p, p)
        Covariance of the fixed effects that belongs to the method.
    notes : list of str
        What a reader of the results has to know.
    """

    cov: FloatArray
    notes: list[str]

    @abstractmethod
    def single(self, matrix: FloatArray) -> FloatArray:
        """
        Degrees of freedom of each row's t test.

        Parameters
        ----------
        matrix : ndarray, shape (c, p)
            One contrast a row, none of them zero.

        Returns
        -------
        ndarray, shape (c,)
        """

    @abstractmethod
    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """
        Degrees of freedom of the joint F test of all rows.

        Parameters
        ----------
        matrix : ndarray, shape (c, p)
        rank : int
            Its rank.

        Returns
        -------
        JointDF
        """


class RobustMethod(ContrastMethod):
    """
    A cluster-robust covariance of the fixed effects, and its degrees of freedom.

    Attributes
    ----------
    cov_type : str
    clusters : str
        How many there are, of what.
    shared : ndarray, shape (p + q, p + q), or None
        Covariance of the fixed effects and the coefficients of smooths.
    """

    cov_type: str
    clusters: str
    shared: FloatArray | None = None


class ColumnDF(ContrastMethod):
    """
    Methods that give each column of the design its degrees of freedom.

    A contrast has the smallest of the columns it involves.

    Parameters
    ----------
    cov : ndarray, shape (p, p)
    df : ndarray, shape (p,)
    """

    def __init__(self, cov: FloatArray, df: FloatArray) -> None:
        self.cov = cov
        self.df = df
        self.notes: list[str] = []

    def single(self, matrix: FloatArray) -> FloatArray:
        """See :meth:`ContrastMethod.single`."""
        used = np.abs(matrix) > 0.0
        return np.where(used, self.df, np.inf).min(axis=1, initial=np.inf)

    def joint(self, matrix: FloatArray, rank: int) -> JointDF:
        """See :meth:`ContrastMethod.joint`."""
        return JointDF(float(self.single(matrix).min()), 1.0)


def containment_df(
    exog: FloatArray, levels: Sequence[IntArray], has_random_effects: bool = True
) -> FloatArray:
    """
    Containment: denominator degrees of freedom of each column, as nlme.

    A column of the fixed-effects design is estimated in the stratum of the
    innermost grouping level within whose groups it varies; a stratum has as many
    degrees of freedom as it has units, less the units of the stratum outside it,
    less the columns estimated in it (Pinheiro and Bates, 2000, page 91).

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
    if not has_random_effects or max(counts, default=1) == 1:
        return np.full(p, float(n - p))
    constant = np.array(
        [bool((exog[:, j] == exog[0, j]).all()) for j in range(p)], dtype=bool
    )
    within = []
    for codes in levels:
        same = constant.copy()
        same[~constant] = constant_within(exog[:, ~constant], codes)
        within.append(same)
    return containment_of(constant, within, counts, n, has_random_effects)


def containment_of(
    constant: BoolArray,
    within: Sequence[BoolArray],
    counts: Sequence[int],
    n: int,
    has_random_effects: bool,
) -> FloatArray:
    """
    The same from what is constant where.

    Parameters
    ----------
    constant : ndarray of bool, shape (p,)
        Whether a column is constant.
    within : sequence of ndarray of bool, each of shape (p,)
        Whether it is constant within the groups of each level.
    counts : sequence of int
        Number of groups of each level.
    n : int
        Number of rows.
    has_random_effects : bool

    Returns
    -------
    ndarray, shape (p,)
    """
    p = len(constant)
    kept = [k for k, count in enumerate(counts) if count > 1]
    if not has_random_effects or not kept:
        return np.full(p, float(n - p))
    strata = [counts[k] for k in kept] + [n]
    stratum = np.full(p, len(strata) - 1)
    # from the inside out: a column constant within the groups of a level is
    # estimated at that level or further out
    for position in range(len(kept) - 1, -1, -1):
        here = ~constant & (stratum == position + 1)
        stratum[here & within[kept[position]]] = position
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


def constant_within(columns: FloatArray | IntArray, codes: IntArray) -> BoolArray:
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


def t_sf(t: FloatArray, df: FloatArray) -> FloatArray:
    """Upper tail of Student's t; NaN without degrees of freedom."""
    finite = np.isfinite(df) & (df > 0.0)
    tail = stats.t.sf(t, np.where(finite, df, 1.0))
    return np.where(finite, tail, np.where(df > 0.0, stats.norm.sf(t), np.nan))


def f_sf(f: FloatArray | float, num: float, df: FloatArray | float) -> FloatArray:
    """Upper tail of F with `num` and `df` degrees of freedom; NaN without any."""
    # scipy's F distribution does not know infinity
    finite = np.isfinite(df) & (df > 0.0)
    tail = stats.f.sf(f, num, np.where(finite, df, 1.0))
    return np.where(
        finite, tail, np.where(df > 0.0, stats.chi2.sf(f * num, num), np.nan)
    )


def t_isf(q: float, df: FloatArray) -> FloatArray:
    """Upper quantile of Student's t; NaN without degrees of freedom."""
    finite = np.isfinite(df) & (df > 0.0)
    point = stats.t.isf(q, np.where(finite, df, 1.0))
    return np.where(finite, point, np.where(df > 0.0, stats.norm.isf(q), np.nan))
