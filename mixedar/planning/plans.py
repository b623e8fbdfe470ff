"""
Data sets that are not there yet: more groups, other times, groups that leave early.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from mixedar._types import FloatArray, IntArray
from mixedar.data.occasions import occasions_of
from mixedar.exceptions import UnknownColumnError, UnsupportedError, listing, shown

# A number with more values among groups does not divide them into strata.
_FEW = 10


@dataclass(frozen=True)
class Plan:
    """
    Rows of a study, by group and time.

    Attributes
    ----------
    frame : DataFrame
    groups : str
        Column of the groups.
    time : str or None
        Column of the times; rows are in their order without one.
    read : frozenset of str
        Columns that the model reads, but for the response.
    """

    frame: pd.DataFrame
    groups: str
    time: str | None
    read: frozenset[str]

    def __post_init__(self) -> None:
        if self.groups not in self.frame.columns:
            raise UnknownColumnError(
                f"the groups of the model ({shown(self.groups)}) are no column of its "
                "data, and a plan is made of columns: name the column in groups="
            )

    @cached_property
    def codes(self) -> IntArray:
        """Number of each row's group, in the order of their first rows."""
        codes = self.frame[self.groups].factorize()[0]
        return np.asarray(codes, dtype=np.intp)

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.codes.max()) + 1

    @property
    def _varying(self) -> list[str]:
        """Columns that vary within groups, but for the time."""
        others = [c for c in self.frame.columns if c not in (self.groups, self.time)]
        counts = self.frame.groupby(self.codes)[others].nunique(dropna=False)
        return [name for name in others if (counts[name] > 1).any()]

    def _with(self, frame: pd.DataFrame) -> Plan:
        """The same plan with other rows, and no levels without rows."""
        frame = frame.reset_index(drop=True)
        for name, dtype in frame.dtypes.items():
            if isinstance(dtype, pd.CategoricalDtype) and not dtype.ordered:
                frame[name] = frame[name].cat.remove_unused_categories()
        return Plan(frame, self.groups, self.time, self.read)

    @cached_property
    def strata(self) -> IntArray:
        """Number of the stratum of each group: equal in all that divides groups."""
        varying = self._varying
        first = self.frame.groupby(self.codes).first()
        dividing = []
        for name in sorted(self.read & set(first.columns) - {self.groups, self.time}):
            number = pd.api.types.is_numeric_dtype(first[name])
            few = not number or first[name].nunique() <= _FEW
            if name not in varying and few:
                dividing.append(name)
        if not dividing:
            return np.zeros(len(first), dtype=np.intp)
        found = first.groupby(dividing, observed=True, dropna=False).ngroup()
        return np.asarray(found, dtype=np.intp)

    def changed(self, times: int | FloatArray | None, count: int | None) -> Plan:
        """The same plan at other times, and with another number of groups."""
        plan = self if times is None else self.with_times(times)
        return plan if count is None else plan.with_groups(count)

    def with_groups(self, count: int) -> Plan:
        """
        The same plan with so many groups.

        Groups are copied in their order, each stratum in proportion.
        """
        if count == self.n_groups:
            return self
        strata = self.strata
        sizes = np.bincount(strata)
        wanted = sizes * count / sizes.sum()
        shares = np.floor(wanted).astype(np.intp)
        rest = np.argsort(shares - wanted, kind="stable")[: count - shares.sum()]
        shares[rest] += 1
        if (shares == 0).any():
            raise UnsupportedError(
                f"n={count} groups do not reach every combination of what divides "
                f"groups in the data ({len(sizes)} of them): ask for more"
            )
        taken = [
            np.resize(np.flatnonzero(strata == k), size)
            for k, size in enumerate(shares.tolist())
        ]
        chosen = np.sort(np.concatenate(taken))
        rows = [np.flatnonzero(self.codes == k) for k in range(self.n_groups)]
        frame = self.frame.iloc[np.concatenate([rows[k] for k in chosen])].copy()
        sizes = np.array([len(rows[k]) for k in chosen])
        frame[self.groups] = np.repeat(np.arange(count), sizes)
        return self._with(frame)

    def with_times(self, times: int | FloatArray) -> Plan:
        """
        The same plan at other times.

        A number takes so many of the first ones, and goes on in equal steps; an array
        has the times of every group.
        """
        if self.time is None:
            raise UnsupportedError(
                "times= needs a column of times: name it in time= of the model"
            )
        column = self.frame[self.time]
        codes, values, _ = occasions_of(column, self.time)
        known = np.asarray(values)
        if np.ndim(times) == 0:
            count = int(times)
            if count <= len(known):
                return self._with(self.frame[codes < count])
            text = isinstance(known[0], str)
            steps = np.zeros(0) if text else np.diff(known)
            if not len(steps) or not (steps == steps[0]).all():
                raise UnsupportedError(
                    f"times={count}: the data have {len(known)} times, which do not "
                    "go on in equal steps; pass the times themselves"
                )
            times = known[0] + np.arange(count) * steps[0]
        wanted = pd.Index(np.asarray(times))
        if not wanted.is_unique:
            raise UnsupportedError(
                f"times= has {shown(wanted[wanted.duplicated()][0])} twice"
            )
        if set(wanted.tolist()) <= set(known.tolist()):
            return self._with(self.frame[column.isin(wanted)])
        lost = sorted(set(self._varying) & self.read)
        if lost:
            raise UnsupportedError(
                f"times= that the data do not have: {listing(lost)} varies within "
                "groups, and its values at other times are not known; pass a frame "
                "with the rows of the whole plan and formula="
            )
        first = self.frame.groupby(self.codes).head(1)
        frame = first.loc[first.index.repeat(len(wanted))].copy()
        frame[self.time] = np.tile(wanted, len(first))
        return self._with(frame)

    def with_dropout(self, share: float, rng: np.random.Generator) -> Plan:
        """
        The same plan where a share of the groups has left before the end.

        Who leaves is drawn in each stratum; each occasion but the first is as likely
        to be the first that is missed.
        """
        codes, strata = self.codes, self.strata
        order = np.arange(len(codes))
        if self.time is not None:
            places, _, _ = occasions_of(self.frame[self.time], self.time)
            order = np.argsort(places, kind="stable")
        rank = np.empty(len(codes), dtype=np.intp)
        rank[order] = pd.Series(codes[order]).groupby(codes[order]).cumcount()
        length = np.bincount(codes)
        last = length.copy()
        for stratum in range(int(strata.max()) + 1):
            here = rng.permutation(np.flatnonzero(strata == stratum))
            leaving = here[: int(share * len(here) + rng.random())]
            # evenly over the occasions, from a place that is drawn
            place = (np.arange(len(leaving)) + rng.random()) / max(len(leaving), 1)
            last[leaving] = 1 + np.floor(place * (length[leaving] - 1)).astype(int)
        return self._with(self.frame[rank < last[codes]])
