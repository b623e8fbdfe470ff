"""The model: its data, its covariance parameters, and V of each group."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Labels = NDArray[Any]
Rows = NDArray[np.intp]
Structure = Literal["independent", "ar1", "car1"]


@dataclass(frozen=True)
class Problem:
    """
    Data of a model, one row an observation, in any order.

    Attributes
    ----------
    y : (n,)
    X : (n, p)
    groups : (n,) labels; rows of different groups are independent
    Z : (n, q), q may be 0
    time : (n,) numbers, or None for 0, 1, 2, ... in row order in each series
    series : (n,) labels of the series inside a group, or None for one each
    vc : name -> (n,) labels; rows of a group with the same label share an
        effect
    """

    y: Array
    X: Array
    groups: Labels
    Z: Array | None = None
    time: Array | None = None
    series: Labels | None = None
    vc: dict[str, Labels] = field(default_factory=dict)

    @property
    def n_re(self) -> int:
        """The number of random effects of a group, without ``vc``."""
        return 0 if self.Z is None else self.Z.shape[1]

    @cached_property
    def members(self) -> list[tuple[Hashable, Rows]]:
        """Each group with its rows, in the order in which they first appear."""
        return list(split(self.groups))

    @cached_property
    def runs(self) -> Rows:
        """Numbers of the series, those of different groups different, (n,)."""
        inner = np.zeros(len(self.y)) if self.series is None else self.series
        pairs = zip(self.groups.tolist(), inner.tolist(), strict=True)
        seen: dict[Hashable, int] = {}
        return np.array([seen.setdefault(pair, len(seen)) for pair in pairs])

    @cached_property
    def times(self) -> Array:
        """Times of the rows, (n,)."""
        if self.time is not None:
            return np.asarray(self.time, dtype=float)
        time = np.empty(len(self.y))
        for _, rows in split(self.runs):
            time[rows] = np.arange(len(rows))
        return time

    @cached_property
    def in_time(self) -> list[Rows]:
        """The rows of each series in the order of time."""
        return [
            rows[np.argsort(self.times[rows], kind="stable")]
            for _, rows in split(self.runs)
        ]

    @cached_property
    def incidence(self) -> list[dict[str, tuple[list[Hashable], Array]]]:
        """For each group: name -> the labels of a variance component, and W."""
        out = []
        for _, rows in self.members:
            own: dict[str, tuple[list[Hashable], Array]] = {}
            for name, labels in self.vc.items():
                levels = sorted(set(labels[rows].tolist()))
                w = np.array([[float(x == a) for a in levels] for x in labels[rows]])
                own[name] = (levels, w)
            out.append(own)
        return out


@dataclass(frozen=True)
class Parameters:
    """
    Covariance parameters.

    Attributes
    ----------
    sigma2 : residual variance
    rho : correlation of residuals at distance one; 0 for independence
    cov_re : (q, q) covariance of the random effects
    vcomp : name -> variance
    R : (n, n), covariance of the residuals of all rows relative to sigma2, in
        place of that by rho
    """

    sigma2: float
    rho: float = 0.0
    cov_re: Array | None = None
    vcomp: dict[str, float] = field(default_factory=dict)
    R: Array | None = None


@dataclass(frozen=True)
class Part:
    """
    One group.

    Attributes
    ----------
    group, rows : its label, and where its rows stand
    V : covariance of its observations
    residual : the residuals' part of V, sigma2 R
    incidence : name -> the labels of a variance component, and W
    """

    group: Hashable
    rows: Rows
    V: Array
    residual: Array
    incidence: dict[str, tuple[list[Hashable], Array]]


def parts(problem: Problem, params: Parameters) -> Iterator[Part]:
    """Yield the groups in the order in which they first appear."""
    r_of = residual_covariance(problem, params)
    for (group, rows), own in zip(problem.members, problem.incidence, strict=True):
        residual = params.sigma2 * r_of(rows)
        V = residual.copy()
        if problem.Z is not None and params.cov_re is not None:
            z = problem.Z[rows]
            V += z @ params.cov_re @ z.T
        for name, (_, w) in own.items():
            V += params.vcomp[name] * w @ w.T
        yield Part(group, rows, V, residual, own)


def residual_covariance(
    problem: Problem, params: Parameters
) -> Callable[[Rows], Array]:
    """Return a function of rows of one group that gives their R."""
    time, own = problem.times, problem.runs

    def of_rows(rows: Rows) -> Array:
        if params.R is not None:
            return np.asarray(params.R[np.ix_(rows, rows)])
        if problem.series is None:
            return correlation(time[rows], params.rho)
        out = np.zeros((len(rows), len(rows)))
        for _, at in split(own[rows]):
            out[np.ix_(at, at)] = correlation(time[rows][at], params.rho)
        return out

    return of_rows


def correlation(time: Array, rho: float) -> Array:
    """Return rho^|t_i - t_j| for times (n,): shape (n, n)."""
    distance = np.abs(time[:, None] - time[None, :])
    return np.asarray(np.power(rho, distance), dtype=float)


def covariance(problem: Problem, params: Parameters) -> Array:
    """V of all rows."""
    out = np.zeros((len(problem.y),) * 2)
    for part in parts(problem, params):
        out[np.ix_(part.rows, part.rows)] = part.V
    return out


def stacked(old: Problem, new: Problem) -> Problem:
    """Both sets of rows in one problem."""

    def both(name: str) -> Any:
        one, other = getattr(old, name), getattr(new, name)
        return None if one is None else np.concatenate([one, other])

    return Problem(
        y=both("y"),
        X=both("X"),
        groups=both("groups"),
        Z=both("Z"),
        time=both("time"),
        series=both("series"),
        vc={name: np.concatenate([old.vc[name], new.vc[name]]) for name in old.vc},
    )


def split(labels: Labels) -> Iterator[tuple[Hashable, Rows]]:
    """Yield each label with the positions where it stands."""
    where: dict[Hashable, list[int]] = {}
    for i, label in enumerate(labels.tolist()):
        where.setdefault(label, []).append(i)
    for label, rows in where.items():
        yield label, np.array(rows, dtype=np.intp)
